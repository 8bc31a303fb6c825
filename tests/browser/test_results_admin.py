"""The admin pages of task results in a real browser: readable at any width, in both themes, and harmless."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from djqueue import states
from djqueue_results.models import TaskResult
from tests.browser.conftest import Browser
from tests.support.results import TaskResultFactory

LIST = "/admin/djqueue_results/taskresult/"
LOOKS = [(width, dark) for width in (390, 1280) for dark in (False, True)]
LONG = "a_very_long_package_name.with_many_parts.tasks.recalculate_the_prices_of_everything"
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 42, in pay\n' + "x" * 300


@pytest.fixture
def failed(transactional_db: None) -> TaskResult:
    """Make a page full of results, and return a failed one."""
    now = timezone.now()
    for state in (states.SUCCESS, states.STARTED, states.RETRY, states.REVOKED, states.RECEIVED, "PROGRESS"):
        TaskResultFactory.create_batch(3, status=state, task_name=LONG, date_started=now, date_done=now)
    wire = {"exc_type": "PaymentError", "exc_message": ["card " + "9" * 300], "exc_module": "shop.errors"}
    return TaskResultFactory.create(
        status=states.FAILURE,
        task_args=json.dumps(repr(({"order": 17, "lines": list(range(60))}, "express"))),
        result=json.dumps(wire),
        traceback=TRACEBACK,
        date_started=now,
        date_done=now + timedelta(seconds=75),
        parent_id="4e196aa4-0141-4601-8138-7aa33db0f577",
        root_id="4e196aa4-0141-4601-8138-7aa33db0f577",
        meta=json.dumps({"children": [[["d478ad8b-7f0e-4fd4-ae2f-62adbb3ac2e5", None], None]] * 2}),
    )


def address_of(row: TaskResult) -> str:
    return reverse("admin:djqueue_results_taskresult_change", args=[row.pk])


def contrast(browser: Browser, selector: str) -> float:
    """Return the contrast between text and background of the first such element (WCAG's formula)."""
    script = """
        const style = getComputedStyle(document.querySelector(arguments[0]));
        const light = colour => {
            const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map(part => {
                part /= 255;
                return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    """
    return float(browser.ask(script, selector))


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_the_pages_are_readable(browser: Browser, failed: TaskResult, width: int, dark: bool) -> None:
    browser.look(width=width, dark=dark)
    for name, path in (("list", LIST), ("detail", address_of(failed))):
        browser.open(path)
        browser.keep(f"{name}-{width}-{'dark' if dark else 'light'}")
        assert browser.complaints() == []
        wide = browser.ask(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{name} is {wide} px wider than the window"
        for element in (".djqueue-state", ".djqueue-block") if name == "detail" else (".djqueue-state",):
            assert contrast(browser, element) >= 4.5


def test_attacks_stay_text(browser: Browser) -> None:
    attack = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
    row = TaskResultFactory.create(
        task_id=attack,
        task_name=attack,
        worker=attack,
        queue=attack,
        result=json.dumps({attack: attack}),
        task_args=json.dumps(attack),
        traceback=attack,
        root_id=attack,
        meta=json.dumps({"children": [[[attack, None], None]]}),
    )
    for path in (LIST, address_of(row)):
        browser.open(path)
        assert browser.ask("return window.hit") is None
        assert browser.complaints() == []
