"""Schedules are made in settings files: importing and making them needs no settings and no models."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETTINGS_FILE = """
from {module} import clocked, crontab, schedule
BEAT_SCHEDULE = {{"daily": crontab(minute=0, hour=7), "often": schedule(30)}}
from django.apps import apps
from django.conf import settings
assert not settings.configured and not apps.models_ready
print(repr(BEAT_SCHEDULE["daily"]))
"""


@pytest.mark.parametrize("module", ["djqueue", "djqueue.schedules", "djqueue_beat.schedules"])
def test_schedules_can_be_made_in_a_settings_file(module: str) -> None:
    program = SETTINGS_FILE.format(module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("<crontab: 0 7 * * * (m/h/dM/MY/d)>\n", 0), done.stderr
