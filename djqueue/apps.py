"""Django's handle on the core app: its name, its checks, and finding the tasks of the other apps.

Loading the app registers the system checks. Task modules are imported when a command or a check first needs
the registry, not here, so that `ready` of every app has run before.
"""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class DjqueueConfig(AppConfig):
    """The task queue: messages, brokers, workers."""

    name = "djqueue"
    verbose_name = "Task queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the module that registers the checks."""
        import_module("djqueue.checks")
