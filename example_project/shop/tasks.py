"""What the shop does in the background: charge orders, write receipts, sum up sales.

Views and schedules send these tasks; they take primary keys and leave rows and results.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from djqueue import shared_task
from djqueue.log import get_task_logger
from example_project.shop.models import Order

logger = get_task_logger(__name__)


class BankUnreachable(Exception):
    """The bank did not answer."""


@shared_task(bind=True, autoretry_for=(BankUnreachable,), retry_backoff=True, max_retries=5)
def charge(self: Any, order_id: int) -> str:
    """Charge an order, once, however often the task runs, and return what the customer paid."""
    order = Order.objects.get(pk=order_id)
    self.update_state(state="PROGRESS", meta={"order": order_id, "doing": "calling the bank"})
    if order.state == Order.State.PLACED:
        order.state = Order.State.CHARGED
        order.save(update_fields=["state"])
    logger.info("Charged order %s", order_id)
    return str(order.amount)


@shared_task
def write_receipt(amount: str, order_id: int) -> str:
    """Write the receipt of a charged order; the amount comes from `charge`."""
    receipt = f"Received {amount} for order {order_id}. Thank you."
    Order.objects.filter(pk=order_id).update(receipt=receipt)
    return receipt


@shared_task
def sum_up_sales(days: int = 1) -> str:
    """Return what was charged in the last `days` days."""
    since = timezone.now() - timedelta(days=days)
    charged = Order.objects.filter(state=Order.State.CHARGED, placed_at__gte=since)
    return str(charged.aggregate(total=Sum("amount"))["total"] or 0)
