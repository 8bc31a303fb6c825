"""Functions and classes become tasks; what is wrong with them is said when they are declared."""

from __future__ import annotations

import inspect
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from djqueue import Task, app, shared_task, task
from djqueue.conf import settings
from djqueue.core.registry import tasks
from djqueue.exceptions import DuplicateTaskNameWarning, NotRegistered


class Expected(Exception):
    pass


class Tenant(Task[..., Any]):
    """A base with an attribute of its own."""

    abstract = True
    tenant = "nobody"
    max_retries = 7


def add(x: int, y: int = 2) -> int:
    """Add."""
    return x + y


def other() -> int:
    return 0


@pytest.mark.parametrize("decorator", [shared_task, task, app.task], ids=["shared_task", "task", "app.task"])
def test_a_function_becomes_a_registered_task_named_after_it(decorator: Callable[..., Any]) -> None:
    made = decorator(add)
    assert isinstance(made, Task)
    assert made.name == f"{__name__}.add"
    assert tasks[made.name] is made
    assert app.tasks is tasks


def test_options_may_be_given_with_or_without_any() -> None:
    assert shared_task()(add) is shared_task(add)
    named = shared_task(name="sums.add", max_retries=None, queue="sums")(add)
    assert (named.name, named.max_retries, named.queue) == ("sums.add", None, "sums")


def test_a_task_looks_like_its_function() -> None:
    made = shared_task(add)
    assert made.__name__ == "add"
    assert made.__doc__ == "Add."
    assert made.__wrapped__ is add
    assert made.run is add
    assert inspect.signature(made) == inspect.signature(add)
    assert repr(made) == f"<@task: {made.name}>"
    assert made(2) == 4


def test_a_bound_task_gets_itself_and_its_signature_does_not_show_it() -> None:
    @shared_task(bind=True)
    def whoami(self: Task[..., Any], x: int) -> tuple[str, int]:
        return self.name, x

    assert whoami(3) == (whoami.name, 3)
    assert str(inspect.signature(whoami)) == "(x: 'int') -> 'tuple[str, int]'"


def test_a_task_of_the_script_that_is_run_is_named_as_importers_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work() -> None: ...

    work.__module__ = "__main__"
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.__file__ = "/srv/site/nightly.py"
    assert shared_task(work).name == "nightly.work"
    main.__spec__ = types.SimpleNamespace(name="site.jobs.__main__")  # type: ignore[assignment]
    assert shared_task(work).name == "site.jobs.work"
    del main.__file__
    main.__spec__ = None
    assert shared_task(work).name == "__main__.work"


def test_no_setting_is_read_while_a_task_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, name: str) -> Any:
        raise AssertionError(f"{name} was read")

    settings.reload()
    monkeypatch.setattr(type(settings), "__getattr__", refuse)
    shared_task(name="quietly.add", rate_limit="1/s")(add)


def test_of_two_functions_with_one_name_the_first_wins_and_it_is_said() -> None:
    first = shared_task(name="twice")(add)
    with pytest.warns(DuplicateTaskNameWarning, match="There is a task named 'twice' already"):
        second: object = shared_task(name="twice")(other)
    assert second is first
    assert tasks["twice"] is first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared_task(name="twice")(add) is first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_retires": 3}, "no option 'max_retires'. Did you mean 'max_retries'?"),
        ({"flavour": 1}, "no option 'flavour'. There are ack, acks_late"),
        ({"max_retries": "3"}, "option max_retries must be"),
        ({"max_retries": -1}, "option max_retries must be"),
        ({"priority": 900}, "option priority must be"),
        ({"acks_late": 1}, "option acks_late must be"),
        ({"ack": "exactly once"}, "option ack must be"),
        ({"ack": "transactional", "acks_late": False}, 'ack="transactional" removes the message when'),
        ({"rate_limit": "ten"}, "option rate_limit must be a rate"),
        ({"autoretry_for": "ValueError"}, "option autoretry_for must be an exception class"),
        ({"throws": [ValueError, "x"]}, "option throws must be an exception class"),
        ({"retry_backoff": "yes"}, "option retry_backoff must be True, False, or a number of seconds"),
        ({"expires": True}, "option expires must be a number of seconds, a timedelta or a datetime"),
        ({"queue": ""}, "option queue must be text"),
        ({"soft_time_limit": 30, "time_limit": 20}, "soft_time_limit is 30 and time_limit is 20"),
        ({"base": int}, "base must be a subclass of Task"),
        ({"bind": "yes"}, "bind must be True or False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_refused_when_the_task_is_declared(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"Task picky") as raised:
        shared_task(name="picky", **options)(add)
    assert message in str(raised.value)
    assert "picky" not in tasks


def test_values_are_normalised() -> None:
    made = shared_task(name="normal", throws=Expected, autoretry_for=[ValueError])(add)
    assert made.throws == (Expected,)
    assert made.autoretry_for == (ValueError,)


@pytest.mark.parametrize("given", [3, "name", int], ids=repr)
def test_only_functions_become_tasks(given: Any) -> None:
    with pytest.raises(TypeError, match="A task is made of a function"):
        shared_task(given)


def test_a_base_class_gives_defaults_and_allows_attributes_of_its_own() -> None:
    made = shared_task(name="t.one", base=Tenant, tenant="acme")(add)
    assert isinstance(made, Tenant)
    assert (made.tenant, made.max_retries) == ("acme", 7)
    path = f"{__name__}.Tenant"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, __name__, sys.modules[Tenant.__module__])
        assert type(shared_task(name="t.two", base=path, max_retries=1)(add)) is Tenant
    assert tasks["t.two"].max_retries == 1
    assert Tenant.tenant == "nobody"


def test_a_class_is_registered_as_one_instance_named_after_it() -> None:
    class Report(Tenant):
        tenant = "acme"

        def run(self, pages: int) -> str:
            return f"{self.tenant}: {pages}"

    made = app.register_task(Report)
    assert made.name == f"{__name__}.Report"
    assert tasks[made.name] is made
    assert made(3) == "acme: 3"
    again = Report()
    assert app.register_task(again) is again
    assert tasks[made.name] is again


def test_a_class_with_a_wrong_option_or_that_is_abstract_is_not_registered() -> None:
    class Wrong(Task[..., Any]):
        max_retries = "many"  # type: ignore[assignment]

    with pytest.raises(ValueError, match="Wrong: the option max_retries must be"):
        app.register_task(Wrong)
    with pytest.raises(TypeError, match="Tenant is abstract"):
        app.register_task(Tenant)
    with pytest.raises(TypeError, match="takes a Task class or instance"):
        app.register_task(int)  # type: ignore[type-var]
    with pytest.raises(NotImplementedError, match=r"must define run\(\)"):
        Task()()


def test_a_task_keeps_what_is_set_on_it_and_is_itself_after_pickling() -> None:
    made = shared_task(add)
    made.handle = object()
    assert pickle.loads(pickle.dumps(made)) is made


def test_an_option_in_force_is_annotated_or_declared_or_the_settings_answer() -> None:
    made = shared_task(name="forced", acks_late=False)(add)
    assert made.option("acks_late") is False
    assert made.option("track_started") is True
    assert made.option("time_limit") is None
    annotations = {
        "*": {"rate_limit": "5/m", "max_retries": 1},
        "forced": {"max_retries": 9, "acks_late": True},
    }
    with settings.override(TASK_ANNOTATIONS=annotations, TASK_TRACK_STARTED=False, TASK_TIME_LIMIT=9):
        assert made.option("acks_late") is True
        assert made.option("rate_limit") == "5/m"
        assert made.option("max_retries") == 9
        assert made.option("track_started") is False
        assert made.option("time_limit") is None
    assert made.option("max_retries") == 3
    with (
        settings.override(TASK_ANNOTATIONS={"forced": {"rate_limt": "5/m"}}),
        pytest.raises(TypeError, match=r"TASK_ANNOTATIONS for forced: .* Did you mean 'rate_limit'"),
    ):
        made.option("rate_limit")


def test_failing_and_timing_out_fall_back_to_the_setting_for_both() -> None:
    made = shared_task(add)
    with settings.override(TASK_ACKS_ON_FAILURE_OR_TIMEOUT=False, TASK_ACKS_ON_TIMEOUT=True):
        assert made.option("acks_on_failure") is False
        assert made.option("acks_on_timeout") is True


def test_a_plan_is_made_once_and_again_when_something_in_it_changes() -> None:
    made = shared_task(name="planned", queue="slow", time_limit=9)(add)
    plan = made.plan
    assert (plan.queue, plan.time_limit, plan.ignore_result) == ("slow", 9, False)
    assert made.plan is plan
    made.queue = "fast"
    assert made.plan.queue == "fast"
    with settings.override(TASK_ANNOTATIONS={"planned": {"queue": "annotated"}}, TASK_IGNORE_RESULT=True):
        assert made.plan.queue == "annotated"
        assert made.plan.ignore_result is True
    assert made.plan.queue == "fast"


def test_an_unknown_name_says_which_are_near() -> None:
    shared_task(name="shop.tasks.charge")(add)
    with pytest.raises(NotRegistered, match=r"Did you mean 'shop\.tasks\.charge'"):
        app.tasks["shop.tasks.chrage"]
