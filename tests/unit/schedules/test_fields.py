"""The language of one crontab field: what may be written, what it stands for, what a mistake says."""

from __future__ import annotations

from typing import Any

import pytest

from djqueue.schedules import ParseException, crontab
from djqueue.schedules.fields import DAY_OF_MONTH, DAY_OF_WEEK, HOUR, MINUTE, MONTH_OF_YEAR, Field


@pytest.mark.parametrize(
    ("field", "given", "numbers"),
    [
        (MINUTE, "*", list(range(60))),
        (MINUTE, 5, [5]),
        (MINUTE, "*/15", [0, 15, 30, 45]),
        (MINUTE, " 1 , 2", [1, 2]),
        (MINUTE, {30, 0}, [0, 30]),
        (MINUTE, (59,), [59]),
        (MINUTE, "*/15,59", [0, 15, 30, 45, 59]),
        (MINUTE, "*/61", [0]),
        (HOUR, "8-17/2", [8, 10, 12, 14, 16]),
        (HOUR, "22-2", [0, 1, 2, 22, 23]),
        (HOUR, "22-2/2", [0, 2, 22]),
        (DAY_OF_WEEK, "mon-fri", [1, 2, 3, 4, 5]),
        (DAY_OF_WEEK, "mon,wed,fri", [1, 3, 5]),
        (DAY_OF_WEEK, "fri-mon", [0, 1, 5, 6]),
        (DAY_OF_WEEK, "SUN", [0]),
        (DAY_OF_WEEK, "Sunday", [0]),
        (DAY_OF_MONTH, "*/3", [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]),
        (DAY_OF_MONTH, "28-31", [28, 29, 30, 31]),
        (DAY_OF_MONTH, "30-2", [1, 2, 30, 31]),
        (MONTH_OF_YEAR, "jan-mar", [1, 2, 3]),
        (MONTH_OF_YEAR, "January", [1]),
        (MONTH_OF_YEAR, "11-2", [1, 2, 11, 12]),
        (MONTH_OF_YEAR, "*/2", [1, 3, 5, 7, 9, 11]),
    ],
)
def test_a_field_stands_for_numbers(field: Field, given: Any, numbers: list[int]) -> None:
    assert list(field.read(given)[1]) == numbers


@pytest.mark.parametrize(
    ("field", "given", "says"),
    [
        (MINUTE, "", 'write "*" for any'),
        (MINUTE, [], "would never match"),
        (MINUTE, "60", "60 is outside of 0 to 59"),
        (MINUTE, -1, "-1 is outside of 0 to 59"),
        (MINUTE, "-5", "negative numbers do not exist"),
        (MINUTE, "1,", "nothing before or after a comma"),
        (MINUTE, "*/0", "must be a number from 1"),
        (MINUTE, "*/x", "must be a number from 1"),
        (MINUTE, "5/3", "write '5-59/3' or '*/3'"),
        (MINUTE, "*-3", "cannot be one end of a range"),
        (MINUTE, "\u0663", "neither"),
        (HOUR, "24", "outside of 0 to 23"),
        (DAY_OF_WEEK, 7, "Sunday is 0"),
        (DAY_OF_WEEK, "thrusday", "did you mean 'thursday'?"),
        (DAY_OF_MONTH, "jan", "neither '*' nor a number from 1 to 31"),
        (MONTH_OF_YEAR, "okt", "did you mean 'oct'?"),
        (MONTH_OF_YEAR, "0", "outside of 1 to 12"),
    ],
)
def test_a_mistake_says_what_was_given_and_what_to_write(field: Field, given: Any, says: str) -> None:
    with pytest.raises(ParseException) as caught:
        field.read(given)
    assert says in str(caught.value)
    assert field.name in str(caught.value)


@pytest.mark.parametrize("given", [1.5, True, None, ["1"], object()])
def test_a_field_of_the_wrong_type_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="must be an int, a string"):
        MINUTE.read(given)


@pytest.mark.parametrize(
    "fields", [{"day_of_month": 31, "month_of_year": "feb,apr"}, {"day_of_month": 30, "month_of_year": 2}]
)
def test_a_date_that_does_not_exist_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ParseException, match="no such date exists"):
        crontab(**fields)


def test_every_mistake_is_a_value_error_as_well() -> None:
    assert issubclass(ParseException, ValueError)


def test_the_text_of_a_field_is_kept_for_tables_and_people() -> None:
    assert MINUTE.read(" */15 ")[0] == "*/15"
    assert MINUTE.read({30, 0})[0] == "0,30"
    assert MINUTE.read(7)[0] == "7"
