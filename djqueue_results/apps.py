"""Django's handle on the app: its name and the kind of its primary keys.

Nothing is registered here. The task queue finds the store by its alias when the app is installed.
"""

from __future__ import annotations

from django.apps import AppConfig


class DjqueueResultsConfig(AppConfig):
    """Task results, kept by Django's ORM."""

    name = "djqueue_results"
    verbose_name = "Task results"
    default_auto_field = "django.db.models.BigAutoField"
