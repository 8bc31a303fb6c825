"""Taking orders over HTTP.

A POST with customer and amount comes in; the order is stored and its tasks are sent in one transaction,
and the answer names the task that charges it.
"""

from __future__ import annotations

from django import forms
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from djqueue import chain
from example_project.shop.models import Order
from example_project.shop.tasks import charge, write_receipt


class OrderForm(forms.ModelForm):
    """What a customer may say about an order."""

    class Meta:
        model = Order
        fields = ("customer", "amount")


@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Store the order, and have it charged and receipted after the transaction has committed."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    with transaction.atomic():
        order = form.save()
        receipt = chain(charge.s(order.pk), write_receipt.s(order.pk)).delay()
    return JsonResponse({"order": order.pk, "task": receipt.id}, status=202)
