"""Our store and a stock Celery's in the same place, from the settings that lead there.

Tests of the clouds' stores come in with a place of their own; both sides leave, and are closed afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from celery import Celery

from djqueue.conf import settings
from djqueue.result.backends import backend
from djqueue.result.contract import ResultBackend
from tests.support import clouds


@contextmanager
def opened(place: Mapping[str, Any]) -> Iterator[ResultBackend]:
    """Give the store that these settings lead to."""
    with settings.override(**place), closing(backend(place["RESULT_BACKEND"])) as made:
        yield made


@contextmanager
def stock(place: Mapping[str, Any]) -> Iterator[Celery]:
    """Give a stock Celery that keeps results in the same place."""
    made = Celery(
        "stock", backend=clouds.as_celery_has_it(place["RESULT_BACKEND"]), set_as_current=False, fixups=[]
    )
    made.conf.update({name.lower(): value for name, value in place.items() if name != "RESULT_BACKEND"})
    with closing(made):
        yield made
