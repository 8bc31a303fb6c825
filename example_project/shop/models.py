"""What the shop keeps: orders, and how far each has come.

Views make orders; tasks charge them and write their receipts.
"""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """One order of one customer."""

    class State(models.TextChoices):
        """How far an order has come."""

        PLACED = "placed"
        CHARGED = "charged"

    customer = models.EmailField()
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PLACED)
    receipt = models.TextField(blank=True)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"
