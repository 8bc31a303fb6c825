"""Orders in the admin, with an action that charges those selected.

Staff come in; `charge` tasks leave, one for each order.
"""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from djqueue import enqueue_many
from example_project.shop.models import Order
from example_project.shop.tasks import charge


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders, newest first."""

    list_display = ("pk", "customer", "amount", "state", "placed_at")
    list_filter = ("state",)
    search_fields = ("customer",)
    ordering = ("-pk",)
    actions = ("charge_selected",)

    @admin.action(description="Charge the selected orders")
    def charge_selected(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Send one task for each order."""
        sent = enqueue_many(charge.s(order.pk) for order in queryset)
        self.message_user(request, f"{len(sent)} orders are being charged.")
