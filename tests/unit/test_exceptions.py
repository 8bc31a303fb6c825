"""Exceptions travel under the names others know, and come back without running anything else."""

from __future__ import annotations

import pickle
import sys
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any

import billiard.exceptions
import celery.exceptions
import kombu.exceptions
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from djqueue import exceptions
from djqueue.conf import settings
from djqueue.core.serialization import dumps_json, loads_json
from djqueue.core.wire_exceptions import class_from_wire, exception_from_wire, exception_to_wire, wire_name
from djqueue.exceptions import (
    DjqueueError,
    MaxRetriesExceededError,
    NotRegistered,
    RemoteError,
    Retry,
    SecurityError,
    SoftTimeLimitExceeded,
)

OURS = [
    value
    for value in vars(exceptions).values()
    if isinstance(value, type)
    and issubclass(value, BaseException)
    and value.__module__ == exceptions.__name__
]
OTHERS = {
    "celery.exceptions": celery.exceptions,
    "billiard.exceptions": billiard.exceptions,
    "kombu.exceptions": kombu.exceptions,
}


class OutOfStock(Exception):
    """An exception of a user's."""

    class Nested(Exception):
        """One inside a class."""


class Picky(Exception):
    """An exception whose constructor wants something else than its args."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")


class Unprintable(Exception):
    """One that needs what only its constructor sets."""

    def __init__(self, *, detail: str) -> None:
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


def travelled(exc: BaseException) -> BaseException:
    """Return the exception after a trip through JSON."""
    return exception_from_wire(loads_json(dumps_json(exception_to_wire(exc))))


def test_every_name_on_the_wire_exists_where_it_says() -> None:
    known = {one: wire_name(one) for one in OURS}
    elsewhere = {one: names for one, names in known.items() if names[0] in OTHERS}
    assert len(elsewhere) >= 25
    for one, (module, name) in elsewhere.items():
        theirs = getattr(OTHERS[module], name)
        assert theirs.__name__ == name
        assert class_from_wire(module, name) is one


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.__name__)
def test_our_own_exceptions_come_back_as_themselves(one: type[BaseException]) -> None:
    if issubclass(one, Warning | RemoteError):
        return
    back = travelled(one("why"))
    assert type(back) is one


def test_names_that_celery_only_passes_on_are_understood() -> None:
    assert class_from_wire("celery.exceptions", "SoftTimeLimitExceeded") is SoftTimeLimitExceeded
    assert class_from_wire("celery.exceptions", "OperationalError") is exceptions.OperationalError


def test_an_exception_reads_on_the_wire_as_celery_writes_it() -> None:
    assert exception_to_wire(KeyError("k")) == {
        "exc_type": "KeyError",
        "exc_message": ["k"],
        "exc_module": "builtins",
    }
    assert exception_to_wire(NotRegistered("nope.task", ["near"])) == {
        "exc_type": "NotRegistered",
        "exc_message": ["nope.task"],
        "exc_module": "celery.exceptions",
    }
    assert exception_to_wire(exceptions.Reject("no", False))["exc_message"] == ["no", False]
    assert exception_to_wire(OutOfStock.Nested())["exc_type"] == "OutOfStock.Nested"


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("bad", 2),
        KeyError("k"),
        OutOfStock("apples", {"left": 0, "when": datetime(2030, 1, 1, tzinfo=UTC)}),
        OutOfStock.Nested(b"\xff", Decimal("1.5")),
        OSError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
        User.DoesNotExist("gone"),
        SystemExit(3),
        MaxRetriesExceededError("enough"),
        ValidationError("wrong", code="x", params={"a": 1}),
    ],
    ids=repr,
)
def test_exceptions_come_back_with_class_and_args(exc: BaseException) -> None:
    back = travelled(exc)
    assert type(back) is type(exc)
    assert back.args == exc.args


def test_args_that_json_cannot_carry_travel_as_text() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    ring: list[Any] = []
    ring.append(ring)
    wire = exception_to_wire(
        ValueError(User(pk=1), {1, 2}, {3: 4}, Broken(), ring, gettext_lazy("Save"), float)
    )
    dumps_json(wire)
    user, a_set, odd_keys, broken, a_ring, lazy, a_class = wire["exc_message"]
    assert user == "<User: >"
    assert (a_set, odd_keys) == ("{1, 2}", "{3: 4}")
    assert a_ring.startswith("[<Recursion on list")
    assert (lazy, a_class) == ("Save", "<class 'float'>")
    assert broken == "<Broken whose repr raised ZeroDivisionError>"


def test_a_constructor_that_wants_something_else_is_not_needed() -> None:
    back = travelled(Picky(5, detail="five"))
    assert isinstance(back, Picky)
    assert str(back) == "5: five"


def test_an_exception_that_cannot_be_rebuilt_is_a_remote_error() -> None:
    back = travelled(Unprintable(detail="d"))
    assert isinstance(back, RemoteError)
    assert (back.exc_type, back.exc_module) == ("Unprintable", __name__)


@pytest.mark.parametrize(
    "wire",
    [
        {"exc_type": "Lost", "exc_message": ["a", 1], "exc_module": "a.module.not.imported"},
        {"exc_type": "Lost", "exc_message": "a", "exc_module": "builtins"},
        {"exc_type": "Lost", "exc_message": ["a"], "exc_module": None},
        {"exc_type": "Lost", "exc_message": ["a"]},
        {"exc_type": "Lost.Deep.Er", "exc_message": ["a"], "exc_module": __name__},
        {"exc_type": "OutOfStock.args", "exc_message": ["a"], "exc_module": __name__ + ".x"},
        {"exc_type": "Lost", "exc_message": None, "exc_module": 5},
    ],
    ids=str,
)
def test_an_unknown_class_is_a_remote_error_that_says_what_it_was(wire: dict[str, Any]) -> None:
    back = exception_from_wire(wire)
    assert isinstance(back, RemoteError)
    assert wire["exc_type"] in str(back)
    assert repr(back).startswith(f"{wire['exc_type']}(")
    again = exception_to_wire(back)
    assert (again["exc_type"], again["exc_module"]) == (back.exc_type, back.exc_module)


def test_modules_are_never_imported_for_an_exception() -> None:
    sys.modules.pop("this", None)
    exception_from_wire({"exc_type": "X", "exc_message": [], "exc_module": "this"})
    assert "this" not in sys.modules


def test_a_modules_own_lookup_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lazy_module")
    module.__getattr__ = lambda name: pytest.fail("run")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    assert isinstance(exception_from_wire({"exc_type": "X", "exc_module": "lazy_module"}), RemoteError)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("builtins", "int"), ("os", "path")],
)
def test_what_is_no_exception_class_is_never_called(module: str, name: str) -> None:
    back = exception_from_wire({"exc_type": name, "exc_message": ["echo pwned"], "exc_module": module})
    assert isinstance(back, SecurityError)
    with pytest.raises(SecurityError, match=f"{module}.{name}"):
        class_from_wire(module, name)


def test_in_strict_mode_only_listed_classes_are_rebuilt() -> None:
    wire = exception_to_wire(OutOfStock("a"))
    nested = exception_to_wire(OutOfStock.Nested("a"))
    with settings.override(RESULT_EXCEPTIONS="strict"):
        assert isinstance(exception_from_wire(wire), RemoteError)
        assert isinstance(travelled(ValueError("x")), ValueError)
        assert isinstance(travelled(SoftTimeLimitExceeded()), SoftTimeLimitExceeded)
    with settings.override(RESULT_EXCEPTIONS=[f"{__name__}.OutOfStock"]):
        assert isinstance(exception_from_wire(wire), OutOfStock)
        assert isinstance(exception_from_wire(nested), RemoteError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WIRES = st.fixed_dictionaries(
    {},
    optional={
        "exc_type": JSON
        | st.sampled_from(["ValueError", "OSError", "UnicodeDecodeError", "int", "Retry", "a.b", ""]),
        "exc_message": JSON,
        "exc_module": JSON | st.sampled_from(["builtins", "celery.exceptions", "os", __name__, ""]),
    },
)


@given(WIRES | JSON)
def test_any_wire_form_becomes_an_exception_that_can_be_shown(wire: Any) -> None:
    exc = exception_from_wire(wire)
    assert isinstance(exc, BaseException)
    assert isinstance(str(exc), str)
    assert repr(exc)


def test_the_message_of_a_retry_may_be_anything() -> None:
    back = exception_from_wire({"exc_type": "Retry", "exc_message": [7], "exc_module": "celery.exceptions"})
    assert str(back) == "7"


def test_an_exception_that_arrives_as_itself_is_passed_on() -> None:
    exc = ValueError("x")
    assert exception_from_wire(exc) is exc


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.__name__)
def test_every_exception_survives_pickling_and_says_something(one: type[BaseException]) -> None:
    back = pickle.loads(pickle.dumps(one("why")))
    assert type(back) is one
    assert str(back)


def test_without_a_message_the_first_line_of_the_description_is_the_message() -> None:
    assert str(SoftTimeLimitExceeded()) == "The soft time limit was exceeded; the task may still clean up."
    assert str(DjqueueError("a")) == "a"
    assert str(DjqueueError("a", 1)) == "('a', 1)"


def test_a_retry_says_when_and_why() -> None:
    assert str(Retry("message", ValueError("x"), 5)) == "message"
    assert str(Retry(exc=ValueError("x"), when=5)) == "Retry in 5s: ValueError('x')"
    assert str(Retry(when=datetime(2030, 1, 1))) == "Retry at 2030-01-01 00:00:00"
    back = pickle.loads(pickle.dumps(Retry(exc=ValueError("x"), when=5)))
    assert (str(back), back.when) == ("Retry in 5s: ValueError('x')", 5)
    assert str(Retry(exc="as text", when=1)) == "Retry in 1s: as text"


def test_timeouts_and_missing_names_are_also_pythons() -> None:
    with pytest.raises(TimeoutError):
        raise exceptions.TimeoutError("late")
    with pytest.raises(KeyError):
        raise NotRegistered("x")
    assert str(NotRegistered("x")).startswith("No task named 'x' is registered")
