"""The tables of the database broker: messages, dead letters, bindings.

Made by makemigrations from djqueue.models.
Runs on every database Django supports.
"""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='DeadLetter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('queue', models.CharField(max_length=255, verbose_name='queue')),
                ('exchange', models.CharField(blank=True, default='', max_length=255, verbose_name='exchange')),
                ('routing_key', models.CharField(blank=True, default='', max_length=255, verbose_name='routing key')),
                ('task', models.CharField(blank=True, default='', max_length=255, verbose_name='task')),
                ('task_id', models.CharField(blank=True, default='', max_length=255, verbose_name='task id')),
                ('priority', models.SmallIntegerField(default=0, help_text='0 comes first.', verbose_name='priority')),
                ('starts', models.PositiveIntegerField(default=0, verbose_name='starts')),
                ('body', models.BinaryField(verbose_name='body')),
                ('headers', models.TextField(default='{}', verbose_name='headers')),
                ('properties', models.TextField(default='{}', verbose_name='properties')),
                ('content_type', models.CharField(blank=True, default='', max_length=255, verbose_name='content type')),
                ('content_encoding', models.CharField(blank=True, default='', max_length=255, verbose_name='content encoding')),
                ('reason', models.CharField(db_index=True, max_length=64, verbose_name='reason')),
                ('detail', models.TextField(blank=True, default='', verbose_name='detail')),
                ('worker', models.CharField(blank=True, default='', max_length=255, verbose_name='last worker')),
                ('buried_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now, verbose_name='buried at')),
            ],
            options={
                'verbose_name': 'dead letter',
                'verbose_name_plural': 'dead letters',
                'permissions': [('requeue_deadletter', 'Can put dead letters back into their queue')],
                'default_permissions': ('view', 'delete'),
            },
        ),
        migrations.CreateModel(
            name='Binding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('exchange', models.CharField(max_length=255)),
                ('kind', models.CharField(default='direct', max_length=16)),
                ('routing_key', models.CharField(blank=True, default='', max_length=255)),
                ('queue', models.CharField(db_index=True, max_length=255)),
                ('subscriber', models.CharField(blank=True, db_index=True, default='', max_length=255)),
                ('keep_for', models.FloatField(default=0)),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('exchange', 'routing_key', 'queue'), name='djqueue_binding_once')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('queue', models.CharField(max_length=255, verbose_name='queue')),
                ('exchange', models.CharField(blank=True, default='', max_length=255, verbose_name='exchange')),
                ('routing_key', models.CharField(blank=True, default='', max_length=255, verbose_name='routing key')),
                ('task', models.CharField(blank=True, default='', max_length=255, verbose_name='task')),
                ('task_id', models.CharField(blank=True, default='', max_length=255, verbose_name='task id')),
                ('priority', models.SmallIntegerField(default=0, help_text='0 comes first.', verbose_name='priority')),
                ('starts', models.PositiveIntegerField(default=0, verbose_name='starts')),
                ('body', models.BinaryField(verbose_name='body')),
                ('headers', models.TextField(default='{}', verbose_name='headers')),
                ('properties', models.TextField(default='{}', verbose_name='properties')),
                ('content_type', models.CharField(blank=True, default='', max_length=255, verbose_name='content type')),
                ('content_encoding', models.CharField(blank=True, default='', max_length=255, verbose_name='content encoding')),
                ('due', models.FloatField(blank=True, null=True, verbose_name='due')),
                ('redelivered', models.BooleanField(default=False, verbose_name='redelivered')),
                ('claimed_by', models.CharField(blank=True, default='', max_length=255, verbose_name='claimed by')),
                ('claimed_at', models.DateTimeField(blank=True, null=True, verbose_name='claimed at')),
                ('created', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created')),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'permissions': [('view_content', 'Can see headers and arguments of messages')],
                'default_permissions': ('view',),
                'indexes': [models.Index(fields=['claimed_by', 'queue', 'due', 'priority', 'id'], name='djqueue_message_turn')],
            },
        ),
    ]
