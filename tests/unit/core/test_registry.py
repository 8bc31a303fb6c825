"""Tasks are found by name, near names are offered, and modules are discovered as Django users expect."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from djqueue.conf import settings
from djqueue.core.registry import Registry, autodiscover, load_tasks, tasks
from djqueue.exceptions import NotRegistered


def task(name: str | None) -> SimpleNamespace:
    return SimpleNamespace(name=name)


def test_a_registered_task_is_found_and_a_later_one_takes_its_place() -> None:
    registry = Registry()
    first, second = task("shop.mail"), task("shop.mail")
    assert registry.register(first) is first
    assert registry["shop.mail"] is first
    registry.register(second)
    assert registry["shop.mail"] is second
    assert registry.get("nope") is None


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_task_without_a_name_is_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match="give it one"):
        Registry().register(task(name))


def test_a_missing_name_is_answered_with_near_ones() -> None:
    registry = Registry()
    for name in ("shop.tasks.send_mail", "shop.tasks.send_sms", "other.jobs.clean"):
        registry.register(task(name))
    with pytest.raises(NotRegistered) as raised:
        registry["shop.tasks.send_mial"]
    assert raised.value.near[0] == "shop.tasks.send_mail"
    assert "Did you mean 'shop.tasks.send_mail'" in str(raised.value)
    assert raised.value.args == ("shop.tasks.send_mial",)
    assert registry.near("send_sms") == ["shop.tasks.send_sms"]
    assert registry.near("x" * 300) == []
    with pytest.raises(KeyError):
        registry["zzz"]


def test_a_task_can_be_taken_out_by_name_or_itself() -> None:
    registry = Registry()
    registry.register(task("a"))
    one = registry.register(task("b"))
    registry.unregister("a")
    registry.unregister(one)
    assert not registry
    with pytest.raises(NotRegistered):
        registry.unregister("a")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory on the import path with a few packages."""
    for name, source in {
        "found_here": "VALUE = 1",
        "broken_here": "import a_module_that_does_not_exist",
        "raising_here": "1 / 0",
    }.items():
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "tasks.py").write_text(source)
    (tmp_path / "without_tasks").mkdir()
    (tmp_path / "without_tasks" / "__init__.py").write_text("")
    (tmp_path / "single_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_are_imported_where_they_exist(packages: Path) -> None:
    found = autodiscover(["found_here", "without_tasks", "single_module"])
    assert found == ["found_here.tasks"]
    assert sys.modules["found_here.tasks"].VALUE == 1
    assert autodiscover(["found_here"], "jobs") == []
    assert autodiscover(["single_module"], None) == ["single_module"]


def test_an_error_inside_a_module_is_not_hidden(packages: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_does_not_exist"):
        autodiscover(["broken_here"])
    with pytest.raises(ZeroDivisionError):
        autodiscover(["raising_here"])
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        autodiscover(["no_such_package"])


def test_the_modules_of_the_settings_are_loaded(packages: Path) -> None:
    with settings.override(IMPORTS=["found_here.tasks"], INCLUDE=["single_module"]):
        load_tasks()
    assert {"found_here.tasks", "single_module"} <= set(sys.modules)
    assert isinstance(tasks, Registry)
