"""Who may hold messages on a database server: leases.

Made by makemigrations from djqueue.models.
Runs on every database Django supports.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('djqueue', '0002_revocations'),
    ]

    operations = [
        migrations.CreateModel(
            name='Claimer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255, unique=True, verbose_name='name')),
                ('lease_until', models.FloatField(verbose_name='lease until')),
                ('session', models.CharField(blank=True, default='', max_length=64, verbose_name='session')),
                ('machine', models.CharField(blank=True, default='', max_length=64, verbose_name='machine')),
                ('started', models.TextField(blank=True, default='', verbose_name='started')),
            ],
            options={
                'verbose_name': 'claimer',
                'verbose_name_plural': 'claimers',
                'default_permissions': ('view',),
            },
        ),
    ]
