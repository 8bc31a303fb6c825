"""Settings: defaults on one page, checked when read, with a guess for every typing mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from djqueue.conf import as_markdown, from_env, settings
from djqueue.core.defaults import DEFAULTS

ROOT = Path(__file__).parents[2]


def problems(**written: Any) -> list[tuple[str, str]]:
    """Return what is wrong with this DJQUEUE dictionary."""
    with override_settings(DJQUEUE=written):
        return [(problem.id, problem.message) for problem in settings.problems()]


def environment(**variables: str) -> environ.Env:
    """Return an environment of these variables only."""

    class Env(environ.FileAwareEnv):
        ENVIRON = environ.fileaware_mapping.FileAwareMapping(env=variables)

    return Env()


# Reading


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_default_fits_its_own_kind(name: str) -> None:
    setting = DEFAULTS[name]
    assert setting.kind.check(setting.default) == setting.default
    assert setting.help.endswith(".")
    with override_settings(DJQUEUE={}):
        assert getattr(settings, name) == setting.default


def test_the_safe_defaults_of_the_contract_are_in_force() -> None:
    with override_settings(DJQUEUE={}):
        assert settings.BROKER_URL == "django://default"
        assert settings.TASK_DEFAULT_QUEUE == "default"
        assert settings.ACCEPT_CONTENT == ("json",)
        assert settings.TASK_ACKS_LATE is settings.TASK_ON_COMMIT is settings.TASK_TRACK_STARTED is True
        assert (settings.TASK_MAX_DELIVERIES, settings.WORKER_SHUTDOWN_GRACE) == (5, 25.0)
        assert settings.RESULT_EXPIRES == 86400


def test_what_the_user_wrote_is_read_and_normalised() -> None:
    written = {
        "RESULT_EXPIRES": timedelta(hours=1),
        "ACCEPT_CONTENT": ["json", "pickle"],
        "TASK_TIME_LIMIT": 30,
        "WORKER_SHUTDOWN_GRACE": None,
    }
    with override_settings(DJQUEUE=written):
        assert settings.RESULT_EXPIRES == 3600.0
        assert settings.ACCEPT_CONTENT == ("json", "pickle")
        assert settings.TASK_TIME_LIMIT == 30
        assert settings.WORKER_SHUTDOWN_GRACE is None
        assert settings.is_set("TASK_TIME_LIMIT")
        assert not settings.is_set("TASK_ACKS_LATE")
        assert settings.as_dict()["TASK_TIME_LIMIT"] == 30
    assert settings.RESULT_EXPIRES == 86400


def test_an_unknown_name_is_an_attribute_error_with_a_guess() -> None:
    with pytest.raises(AttributeError, match=r"not a djqueue setting\. Did you mean 'TASK_ACKS_LATE'"):
        _ = settings.TASK_ACK_LATE


def test_a_bad_value_is_refused_when_it_is_read() -> None:
    with override_settings(DJQUEUE={"TASK_MAX_DELIVERIES": 0}):
        with pytest.raises(ImproperlyConfigured) as raised:
            _ = settings.TASK_MAX_DELIVERIES
        assert str(raised.value) == "DJQUEUE['TASK_MAX_DELIVERIES'] must be 1 or more; it is 0."


def test_djangos_time_zone_is_used_unless_there_is_one_of_our_own() -> None:
    with override_settings(DJQUEUE={}, TIME_ZONE="Europe/Oslo"):
        assert settings.timezone() == ZoneInfo("Europe/Oslo")
        with settings.override(TIMEZONE="Asia/Tokyo"):
            assert settings.timezone() == ZoneInfo("Asia/Tokyo")
        with settings.override(TIMEZONE="UTC"):
            assert settings.timezone() is UTC


# Changing


def test_a_change_of_djangos_settings_is_noticed() -> None:
    with override_settings(DJQUEUE={"TASK_DEFAULT_QUEUE": "a"}):
        assert settings.TASK_DEFAULT_QUEUE == "a"
        with override_settings(DJQUEUE={"TASK_DEFAULT_QUEUE": "b"}):
            assert settings.TASK_DEFAULT_QUEUE == "b"
        assert settings.TASK_DEFAULT_QUEUE == "a"
    assert settings.TASK_DEFAULT_QUEUE == "default"


def test_updates_win_over_the_dictionary_until_they_are_reset() -> None:
    with override_settings(DJQUEUE={"TASK_DEFAULT_QUEUE": "a"}):
        settings.update({"task_default_queue": "b"}, TASK_TIME_LIMIT=5)
        try:
            assert (settings.TASK_DEFAULT_QUEUE, settings.TASK_TIME_LIMIT) == ("b", 5)
            assert settings.is_set("TASK_TIME_LIMIT")
        finally:
            settings.reset()
        assert (settings.TASK_DEFAULT_QUEUE, settings.TASK_TIME_LIMIT) == ("a", None)


def test_overrides_end_with_their_block_even_when_it_fails() -> None:
    def fail() -> None:
        with settings.override(TASK_TIME_LIMIT=6, TASK_ACKS_LATE=False):
            assert (settings.TASK_TIME_LIMIT, settings.TASK_ACKS_LATE) == (6, False)
            raise ZeroDivisionError

    with settings.override(TASK_TIME_LIMIT=5):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert (settings.TASK_TIME_LIMIT, settings.TASK_ACKS_LATE) == (5, True)
    assert settings.TASK_TIME_LIMIT is None


def test_a_wrong_change_changes_nothing() -> None:
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'TASK_ROUTES'"):
        settings.update(task_default_queue="x", task_route={})
    with pytest.raises(ImproperlyConfigured, match="must be True or False"):
        settings.update(TASK_DEFAULT_QUEUE="x", TASK_ACKS_LATE="yes")
    assert settings.TASK_DEFAULT_QUEUE == "default"


# Problems


def test_a_right_dictionary_has_no_problems() -> None:
    assert problems() == []
    assert problems(TASK_ROUTES={"a.*": "q"}, WORKER_CONCURRENCY=4, TASK_DEFAULT_RATE_LIMIT="10/m") == []


def test_unknown_names_are_problems_with_a_guess() -> None:
    ((identifier, message),) = problems(TASK_ROUTE={})
    assert identifier == "unknown_setting"
    assert message == "DJQUEUE['TASK_ROUTE'] is not a djqueue setting. Did you mean 'TASK_ROUTES'?"
    assert "Did you mean 'TASK_ROUTES'" in problems(task_routes={})[0][1]
    assert "Did you mean 'WORKER_CONCURRENCY'" in problems(CELERYD_CONCURRENCY=1)[0][1]
    assert "is not a djqueue setting" in problems(CASSANDRA_PORT=1)[0][1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TASK_ACKS_LATE", "yes", "must be True or False"),
        ("TASK_ACKS_LATE", 1, "must be True or False"),
        ("BROKER_URL", "", "must be text"),
        ("BROKER_URL", ["amqp://a", 1], "must be text"),
        ("ACCEPT_CONTENT", "json", "must be a list of text, not one text"),
        ("ACCEPT_CONTENT", [1], "must be a list of text"),
        ("ACCEPT_CONTENT", 5, "must be a list of text"),
        ("TASK_PROTOCOL", 3, "must be 2 or 1"),
        ("TASK_PROTOCOL", True, "must be 2 or 1"),
        ("TASK_DEFAULT_DELIVERY_MODE", "lasting", "'persistent' or 'transient'"),
        ("TASK_DEFAULT_PRIORITY", 256, "must be 0 to 255"),
        ("TASK_DEFAULT_PRIORITY", 1.5, "a whole number"),
        ("TASK_TIME_LIMIT", 0, "more than 0"),
        ("RESULT_EXPIRES", -1, "0 or more"),
        ("RESULT_EXPIRES", float("inf"), "must be seconds"),
        ("TASK_TIME_LIMIT", "30", "must be seconds"),
        ("TASK_TIME_LIMIT", float("nan"), "must be seconds"),
        ("TASK_TIME_LIMIT", True, "must be seconds"),
        ("TASK_DEFAULT_RATE_LIMIT", "10/d", "must be a rate"),
        ("TASK_DEFAULT_RATE_LIMIT", True, "must be a rate"),
        ("TASK_DEFAULT_RATE_LIMIT", "fast", "must be a rate"),
        ("TIMEZONE", "Mars/Base", "must be the name of a time zone"),
        ("TIMEZONE", "../etc/passwd", "must be the name of a time zone"),
        ("TASK_ROUTES", 5, "must be a dict, a function"),
        ("TASK_ANNOTATIONS", {"a": 5}, "must be a dict of dicts"),
        ("TASK_ANNOTATIONS", [], "must be a dict"),
        ("BROKER_TRANSPORT_OPTIONS", [], "must be a dict"),
        ("RESULT_EXCEPTIONS", "loose", "must be a list of text"),
        ("WORKER_CONCURRENCY", 0, "1 or more"),
        ("TASK_MAX_DELIVERIES", None, "a whole number"),
    ],
)
def test_values_that_do_not_fit_are_problems_in_words(name: str, value: Any, words: str) -> None:
    ((identifier, message),) = problems(**{name: value})
    assert identifier == "bad_value"
    assert words in message
    assert name in message


def test_a_dictionary_that_is_none_is_a_problem() -> None:
    with override_settings(DJQUEUE=["BROKER_URL"]):
        ((identifier, message),) = [(problem.id, problem.message) for problem in settings.problems()]
        assert (identifier, message) == ("not_a_dict", "DJQUEUE must be a dict; it is list.")
        with pytest.raises(ImproperlyConfigured):
            _ = settings.BROKER_URL


# The environment


def test_the_environment_gives_values_of_the_right_types(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("django://from-file")
    found = from_env(
        env=environment(
            DJQUEUE_BROKER_URL_FILE=str(secret),
            DJQUEUE_TASK_ACKS_LATE="off",
            DJQUEUE_TASK_TRACK_STARTED="True",
            DJQUEUE_TASK_TIME_LIMIT="30",
            DJQUEUE_RESULT_EXPIRES="0.5",
            DJQUEUE_WORKER_SHUTDOWN_GRACE="none",
            DJQUEUE_RESULT_BACKEND="",
            DJQUEUE_ACCEPT_CONTENT="json, yaml",
            DJQUEUE_IMPORTS="",
            DJQUEUE_TASK_ROUTES='{"a.*": {"queue": "q"}}',
            DJQUEUE_TASK_PROTOCOL="1",
            DJQUEUE_TASK_DEFAULT_DELIVERY_MODE="transient",
            DJQUEUE_RESULT_EXCEPTIONS="a.B,c.D",
            DJQUEUE_TASK_DEFAULT_RATE_LIMIT="10/m",
            OTHER="1",
        )
    )
    assert found == {
        "BROKER_URL": "django://from-file",
        "TASK_ACKS_LATE": False,
        "TASK_TRACK_STARTED": True,
        "TASK_TIME_LIMIT": 30,
        "RESULT_EXPIRES": 0.5,
        "WORKER_SHUTDOWN_GRACE": None,
        "RESULT_BACKEND": None,
        "ACCEPT_CONTENT": ("json", "yaml"),
        "IMPORTS": (),
        "TASK_ROUTES": {"a.*": {"queue": "q"}},
        "TASK_PROTOCOL": 1,
        "TASK_DEFAULT_DELIVERY_MODE": "transient",
        "RESULT_EXCEPTIONS": ("a.B", "c.D"),
        "TASK_DEFAULT_RATE_LIMIT": "10/m",
    }
    assert problems(**found) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TASK_ACKS_LATE", "perhaps"),
        ("TASK_TIME_LIMIT", "long"),
        ("TASK_ROUTES", "{"),
        ("TASK_PROTOCOL", "3"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name: str, text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        from_env(env=environment(**{f"DJQUEUE_{name}": text}))
    assert str(raised.value).startswith(f"The environment variable DJQUEUE_{name} must be ")
    assert f"it is {text!r}" in str(raised.value)


def test_a_mistyped_variable_is_left_for_the_check_and_others_are_ignored() -> None:
    env = environment(DJQUEUE_TASK_ACK_LATE="1", DJQUEUE_TEST_REDIS_URL="x", DJQUEUE_HOME="/x")
    found = from_env(env=env)
    assert found == {"TASK_ACK_LATE": "1"}
    assert "Did you mean 'TASK_ACKS_LATE'" in problems(**found)[0][1]


def test_another_prefix_may_be_used() -> None:
    assert from_env("Q_", environment(Q_TASK_TIME_LIMIT="5")) == {"TASK_TIME_LIMIT": 5}


# Beyond


def test_the_settings_page_of_the_docs_is_up_to_date() -> None:
    written = ROOT.joinpath("docs/reference/settings.md").read_text(encoding="utf-8")
    assert written == as_markdown(), "The settings changed: run `make docs`, and commit the page."


def run(source: str, **environment: str) -> Any:
    """Return what a fresh Python without Django settings prints, as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return json.loads(result.stdout)


def test_without_django_settings_there_are_the_defaults_and_later_ones_are_noticed() -> None:
    source = """
import json
from djqueue.conf import settings
from django.conf import settings as django_settings
before = settings.TASK_DEFAULT_QUEUE
django_settings.configure(DJQUEUE={"TASK_DEFAULT_QUEUE": "later"})
print(json.dumps([before, settings.TASK_DEFAULT_QUEUE]))
"""
    assert run(source) == ["default", "later"]


def test_importing_the_settings_reads_nothing_of_django() -> None:
    source = """
import json, djqueue.conf, djqueue.exceptions, djqueue.signals, djqueue.log, djqueue.core.protocol
from django.conf import settings
print(json.dumps(settings.configured))
"""
    assert run(source) is False
    assert run(source, DJANGO_SETTINGS_MODULE="a.module.that.does.not.exist") is False


def test_a_broken_settings_module_is_not_taken_for_none() -> None:
    source = """
import json
from djqueue.conf import settings
try:
    settings.TASK_DEFAULT_QUEUE
except ImportError as exc:
    print(json.dumps(exc.name))
"""
    assert run(source, DJANGO_SETTINGS_MODULE="no_such_settings") == "no_such_settings"
