"""`import djqueue`: what it offers, and that a settings file may do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import djqueue

ROOT = Path(__file__).resolve().parents[2]

LOOK = """
import sys
import djqueue, djqueue.schedules, djqueue.conf, djqueue.log, djqueue.exceptions, djqueue.signals

@djqueue.shared_task(rate_limit="10/m", bind=True)
def declared(self): ...

schedule = djqueue.crontab(minute=5)
from django.conf import settings
assert not settings.configured, "settings were read"
loaded = [
    name
    for name in sys.modules
    if name == "rest_framework" or (name.startswith("djqueue") and "models" in name)
]
assert not loaded, loaded
"""


def test_every_public_name_is_there() -> None:
    assert sorted(djqueue.__all__) == djqueue.__all__
    for name in djqueue.__all__:
        assert getattr(djqueue, name) is not None or name == "current_task"


def test_importing_it_reads_no_setting_and_loads_no_model() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", LOOK], cwd=ROOT, check=True, timeout=60)
