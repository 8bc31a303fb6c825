"""Task loggers know the running task, and nothing from outside breaks a log line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djqueue.core.requests import Request, running
from djqueue.log import (
    TaskContext,
    TaskFormatter,
    escape,
    escape_block,
    get_task_logger,
    set_up_worker_logging,
)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return what the logger `shop.tasks` logs."""
    found: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, keeper = logging.getLogger("shop.tasks"), Keeper()
    logger.addHandler(keeper)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(keeper)
    logger.setLevel(logging.NOTSET)


def test_records_carry_the_running_task(records: list[logging.LogRecord]) -> None:
    logger = get_task_logger("shop.tasks")
    logger.info("outside")
    with running(Request(id="id\n1", task="shop.mail")):
        logger.info("inside %s", 1)
    outside, inside = records
    assert (vars(outside)["task_id"], vars(outside)["task_name"]) == ("???", "???")
    assert (vars(inside)["task_id"], vars(inside)["task_name"]) == ("id\\n1", "shop.mail")
    assert (
        TaskFormatter("%(task_name)s[%(task_id)s] %(message)s").format(inside) == "shop.mail[id\\n1] inside 1"
    )


def test_the_task_logger_is_the_ordinary_logger_of_that_name() -> None:
    logger = get_task_logger("shop.tasks")
    assert logger is logging.getLogger("shop.tasks") is get_task_logger("shop.tasks")
    assert sum(isinstance(one, TaskContext) for one in logger.filters) == 1


def test_the_formatter_takes_records_of_any_logger() -> None:
    record = logging.LogRecord("other", logging.INFO, "f.py", 1, "hello", None, None)
    assert TaskFormatter("%(task_name)s: %(message)s").format(record) == "???: hello"
    with running(Request(id="1", task="t")):
        assert TaskFormatter("%(task_name)s: %(message)s").format(record) == "t: hello"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 🫐", "plain é 🫐"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x00\x7f\x9b", "\\x1b[31mred\\x00\\x7f\\x9b"),
        ("\u2028\u2029\u202e\u2066", "\\u2028\\u2029\\u202e\\u2066"),
        ("\ud800", "\\ud800"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_control_characters_are_written_out(text: object, expected: str) -> None:
    assert escape(text) == expected


def test_long_texts_are_cut() -> None:
    assert escape("x" * 2000) == "x" * 1023 + "…"
    assert escape("abcdef", 4) == "abc…"
    assert escape("abcd", 4) == "abcd"
    assert escape("abc", 0) == "…"


@given(st.text(), st.integers(1, 50))
def test_whatever_comes_in_one_line_that_can_be_written_comes_out(text: str, limit: int) -> None:
    shown = escape(text, limit)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert "\x1b" not in shown


@pytest.fixture
def djqueue_logger() -> Iterator[logging.Logger]:
    """Return djqueue's logger; put it back as it was afterwards."""
    logger = logging.getLogger("djqueue")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    for handler in logger.handlers:
        if handler not in before[0]:
            handler.close()
    logger.handlers, logger.level, logger.propagate = before


def test_a_worker_is_heard_on_standard_error_when_nobody_listens(djqueue_logger: logging.Logger) -> None:
    djqueue_logger.handlers, djqueue_logger.propagate = [], False
    set_up_worker_logging(logging.INFO)
    (handler,) = djqueue_logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    assert djqueue_logger.level == logging.INFO


def test_handlers_of_the_project_are_left_to_do_it(djqueue_logger: logging.Logger) -> None:
    own = logging.NullHandler()
    djqueue_logger.handlers, djqueue_logger.propagate = [own], False
    set_up_worker_logging(logging.DEBUG)
    assert djqueue_logger.handlers == [own]


def test_a_log_file_is_written_whatever_else_listens(djqueue_logger: logging.Logger, tmp_path: Path) -> None:
    set_up_worker_logging(logging.INFO, tmp_path / "worker.log")
    logging.getLogger("djqueue.worker").info("ready é")
    text = (tmp_path / "worker.log").read_text(encoding="utf-8")
    assert text.endswith("INFO/MainProcess] ready é\n")


def test_a_block_keeps_its_lines_and_writes_out_what_terminals_obey() -> None:
    block = escape_block("Traceback:\n  a \x1b[31mred\x00 line\r\nValueError: bad \u2028 text")
    assert block == "Traceback:\n  a \\x1b[31mred\\x00 line\\r\nValueError: bad \\u2028 text"


def test_a_long_block_loses_its_middle() -> None:
    block = escape_block("first\n" + "x" * 100_000 + "\nlast")
    assert block.startswith("first\n")
    assert block.endswith("\nlast")
    assert "characters left out" in block
    assert len(block) < 10_000
