"""Django settings of the benchmarks: one database, and the apps of the contender that is being measured.

BENCH_DIR names the directory of this round, BENCH_CONTENDER who is being measured, BENCH_REDIS,
BENCH_RABBIT and BENCH_POSTGRES the round's own servers, where there are any. Nobody is handicapped: every
contender gets the same database with the same Django options, a file in WAL mode where there is no server.
"""

from __future__ import annotations

import os
from pathlib import Path

import environ

from benchmarks.numbers import BROKER_DB, RESULT_DB

DIRECTORY = Path(os.environ["BENCH_DIR"])
CONTENDER = os.environ.get("BENCH_CONTENDER", "djqueue")
REDIS = os.environ.get("BENCH_REDIS")
RABBIT = os.environ.get("BENCH_RABBIT")
POSTGRES = os.environ.get("BENCH_POSTGRES")

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
if POSTGRES:
    DATABASES = {"default": environ.Env.db_url_config(POSTGRES)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if CONTENDER == "djqueue":
    INSTALLED_APPS += ["djqueue", "djqueue_results", "benchmarks.contenders.djqueue_app"]
    if REDIS:
        DJQUEUE = {"BROKER_URL": RABBIT or f"{REDIS}/{BROKER_DB}", "RESULT_BACKEND": f"{REDIS}/{RESULT_DB}"}
elif CONTENDER == "django_tasks_db":
    INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
elif CONTENDER == "django_q2":
    INSTALLED_APPS += ["django_q"]
    Q_CLUSTER = {"name": "bench", "orm": "default", "workers": 2, "poll": 0.01, "save_limit": 0}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
