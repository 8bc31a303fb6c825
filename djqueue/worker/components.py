"""Background duties of a worker: what is done now and then beside running tasks.

Other apps bring theirs by an attribute of their AppConfig, `djqueue_components = {"beat": "dotted.path"}`,
so that `runworker --beat` needs no import upwards. A component has `start`, `tick` and `stop`; its ticks run
in the loop's thread and must be short. One that raises is logged and ticked again later, never fatal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Protocol

from django.apps import apps
from django.utils.module_loading import import_string

from djqueue.exceptions import ImproperlyConfigured
from djqueue.worker import log_lines

#: a component that failed is ticked again after so many seconds
PAUSE_AFTER_ERROR = 5.0


class Component(Protocol):
    """What the worker asks of a background duty."""

    def start(self) -> None:
        """Begin; called once before the first tick."""

    def tick(self, now: float) -> float:
        """Do what is due at `now` (monotonic seconds); return in how many seconds to come again."""

    def stop(self) -> None:
        """End; called once, also after errors."""


def known_components() -> dict[str, str]:
    """Return the components that the installed apps offer: name → dotted path."""
    return {
        name: path
        for config in apps.get_app_configs()
        for name, path in getattr(config, "djqueue_components", {}).items()
    }


class Components:
    """The components of one worker. Used by the loop's thread only, except for `hurry`."""

    def __init__(self, names: Iterable[str]) -> None:
        known = known_components()
        self._components: dict[str, Component] = {}
        self._next: dict[str, float] = {}
        #: those that want to be ticked at once; any thread appends
        self.hurried: deque[str] = deque()
        for name in names:
            if name not in known:
                near = (
                    get_close_matches(name, known) or sorted(known) or ["none: add its app to INSTALLED_APPS"]
                )
                raise ImproperlyConfigured(
                    f"No installed app offers the component {name!r} (offered: {', '.join(near)})."
                )
            self._components[name] = import_string(known[name])()

    def add(self, name: str, component: Component) -> None:
        """Add a component that is made already; called before `start`."""
        self._components[name] = component

    def hurry(self, name: str) -> None:
        """Let a component be ticked in this turn of the loop, or the next; may be called by any thread."""
        self.hurried.append(name)

    def start(self) -> None:
        """Start all, in the order given."""
        for name, component in self._components.items():
            component.start()
            self._next[name] = 0.0

    def tick(self, now: float) -> float:
        """Tick those that are due, and return in how many seconds the next one is."""
        while self.hurried:
            self._next[self.hurried.popleft()] = 0.0
        for name, when in self._next.items():
            if when <= now:
                self._next[name] = now + self._tick_one(name, now)
        return min(self._next.values(), default=float("inf")) - now

    def stop(self) -> None:
        """Stop all that were started, last first."""
        while self._next:
            name, _ = self._next.popitem()
            try:
                self._components[name].stop()
            except Exception as error:
                log_lines.component_failed(name, repr(error))

    def _tick_one(self, name: str, now: float) -> float:
        try:
            return self._components[name].tick(now)
        except Exception as error:
            log_lines.component_failed(name, repr(error))
            return PAUSE_AFTER_ERROR
