"""The shop as a Django app.

Nothing comes in and nothing leaves: the class only gives the app its name and label.
"""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Orders, and the tasks that work on them."""

    name = "example_project.shop"
    label = "shop"
