"""Django's handle on the core app: its name, its checks, and finding the tasks of the other apps.

Loading the app registers the system checks. Task modules are imported when a command or a check first needs
the registry, not here, so that `ready` of every app has run before.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from django.apps import AppConfig

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.sent_events import SentEvents


class DjqueueConfig(AppConfig):
    """The task queue: messages, brokers, workers."""

    name = "djqueue"
    verbose_name = "Task queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the module that registers the checks, and let monitors hear of what is sent if they want."""
        import_module("djqueue.checks")
        with suppress(ImproperlyConfigured):  # a check says so
            if settings.TASK_SEND_SENT_EVENT:
                SentEvents().listen()
