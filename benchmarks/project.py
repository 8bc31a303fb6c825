"""Django settings of the benchmarks: one SQLite file, and the apps of the contender that is being measured.

BENCH_DIR names the directory of this round, BENCH_CONTENDER who is being measured, BENCH_REDIS the round's
own server, where there is one. Nobody is handicapped: every contender gets a file database in WAL mode with
the same Django options.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.lineup import BROKER_DB, RESULT_DB

DIRECTORY = Path(os.environ["BENCH_DIR"])
CONTENDER = os.environ.get("BENCH_CONTENDER", "djqueue")
REDIS = os.environ.get("BENCH_REDIS")

SECRET_KEY = "benchmarks"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(DIRECTORY / "bench.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if CONTENDER == "djqueue":
    INSTALLED_APPS += ["djqueue", "djqueue_results", "benchmarks.contenders.djqueue_app"]
    if REDIS:
        DJQUEUE = {"BROKER_URL": f"{REDIS}/{BROKER_DB}", "RESULT_BACKEND": f"{REDIS}/{RESULT_DB}"}
elif CONTENDER == "django_tasks_db":
    INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
