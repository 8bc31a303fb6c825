from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("customer", models.EmailField(max_length=254)),
                ("amount", models.DecimalField(decimal_places=2, max_digits=10)),
                (
                    "state",
                    models.CharField(
                        choices=[("placed", "Placed"), ("charged", "Charged")], default="placed", max_length=10
                    ),
                ),
                ("receipt", models.TextField(blank=True)),
                ("placed_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
