"""Settings of the test project: SQLite files, every app of the suite, a second database alias.

The databases live in the directory named by `DJQUEUE_TEST_DIR`, or in a fresh temporary one; the worker and
beat processes that tests start are given the same directory. `DJQUEUE_TEST_SETTINGS` may hold a JSON object
that is merged into `DJQUEUE`, so that a test can run a process with settings of its own.
`DJQUEUE_TEST_DATABASE` may hold the URL of a server's database, which then is the default one, and
`DJQUEUE_TEST_DIRECT` another URL of the same, past a pooler.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import environ
import pymysql

DIRECTORY = Path(os.environ.get("DJQUEUE_TEST_DIR") or tempfile.mkdtemp(prefix="djqueue-tests-"))


def sqlite(name: str) -> dict[str, Any]:
    """Return a database in a file: worker and test are different processes, so memory will not do."""
    path = str(DIRECTORY / f"{name}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        "TEST": {"NAME": path},
    }


def on_server(url: str) -> dict[str, Any]:
    """Return the database at the URL, on a PostgreSQL or MySQL server."""
    if url.startswith("mysql:"):
        # Django asks for mysqlclient, which has to be compiled; this one is good enough for tests.
        pymysql.version_info = (2, 2, 1, "final", 0)
        pymysql.install_as_MySQLdb()
    return dict(environ.Env.db_url_config(url))


SECRET_KEY = "a secret of the tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
# Not UTC, and with daylight saving: whoever mixes up local time and UTC finds out.
TIME_ZONE = "Europe/Oslo"
LANGUAGE_CODE = "en-us"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "djqueue",
    "djqueue_results",
    "djqueue_beat",
    "tests.project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "tests.project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Hashing passwords well takes a quarter of a second for each user a test makes.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {"default": sqlite("default"), "other": sqlite("other")}
if os.environ.get("DJQUEUE_TEST_DATABASE"):
    DATABASES["default"] = on_server(os.environ["DJQUEUE_TEST_DATABASE"])
if os.environ.get("DJQUEUE_TEST_DIRECT"):
    DATABASES["direct"] = {**on_server(os.environ["DJQUEUE_TEST_DIRECT"]), "TEST": {"MIRROR": "default"}}

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    # One that processes share; nobody connects unless a test uses it.
    "shared": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": os.environ.get("DJQUEUE_TEST_REDIS_URL", "redis://127.0.0.1:6379/0"),
    },
}

DJQUEUE: dict[str, Any] = json.loads(os.environ.get("DJQUEUE_TEST_SETTINGS", "{}"))
