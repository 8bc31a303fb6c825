"""Django's handle on beat: its name, its component of workers, its checks.

`runworker --beat` finds the component by the attribute below, so that the task queue imports nothing from
here.
"""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

from django.apps import AppConfig


class DjqueueBeatConfig(AppConfig):
    """Periodic tasks."""

    name = "djqueue_beat"
    verbose_name = "Periodic tasks"
    default_auto_field = "django.db.models.BigAutoField"
    #: what workers may run besides tasks: name → class
    djqueue_components: ClassVar[dict[str, str]] = {"beat": "djqueue_beat.component.BeatComponent"}

    def ready(self) -> None:
        """Register the checks, and note changes from now on (models cannot be imported before)."""
        import_module("djqueue_beat.checks")
        import_module("djqueue_beat.changes").watch()
