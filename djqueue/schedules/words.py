"""Crontab fields in plain words: "every weekday at 07:30", "every 15 minutes on Mondays".

The sorted numbers of the five fields come in, a phrase leaves. It says exactly what the fields say: where no
short phrase does, the numbers are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from djqueue.schedules.fields import MONTHS, WEEKDAYS

#: times of day are listed up to so many, else described
LISTED_TIMES = 6
WORKDAYS, WEEKEND = (1, 2, 3, 4, 5), (0, 6)

Numbers = Sequence[int]


def crontab_in_words(fields: Mapping[str, Numbers]) -> str:
    """Return the phrase for the sorted numbers of the five fields (keys as in `crontab`)."""
    minutes, hours = fields["minute"], fields["hour"]
    days, weekdays, months = fields["day_of_month"], fields["day_of_week"], fields["month_of_year"]
    if len(hours) < 24 and len(minutes) * len(hours) <= LISTED_TIMES:
        times = _listed(f"{hour:02}:{minute:02}" for hour in hours for minute in minutes)
        phrase = f"{_which_days(days, weekdays)} at {times}"
    else:
        phrase = _how_often(minutes, hours) + _on_days(days, weekdays)
    return phrase + _in_months(months)


def _which_days(days: Numbers, weekdays: Numbers) -> str:
    if len(days) < 31:
        return _on_days(days, weekdays).strip()
    if len(weekdays) == 7:
        return "every day"
    if tuple(weekdays) == WORKDAYS:
        return "every weekday"
    if tuple(weekdays) == WEEKEND:
        return "every Saturday and Sunday"
    return f"every {_listed(WEEKDAYS[day].capitalize() for day in weekdays)}"


def _on_days(days: Numbers, weekdays: Numbers) -> str:
    if len(weekdays) == 7:
        on_weekdays = ""
    elif tuple(weekdays) == WORKDAYS:
        on_weekdays = "weekdays"
    else:
        on_weekdays = _listed(f"{WEEKDAYS[day].capitalize()}s" for day in weekdays)
    if len(days) == 31:
        return f" on {on_weekdays}" if on_weekdays else ""
    numbers = f" on day{'s' if len(days) > 1 else ''} {_ranges(days)} of the month"
    return f"{numbers} that are {on_weekdays}" if on_weekdays else numbers


def _in_months(months: Numbers) -> str:
    return "" if len(months) == 12 else f" in {_listed(MONTHS[month - 1].capitalize() for month in months)}"


def _how_often(minutes: Numbers, hours: Numbers) -> str:
    step = _even_step(minutes, 60)
    if step == 1:
        often = "every minute"
    elif step and len(minutes) > 1:
        often = f"every {step} minutes"
    else:
        return _at_minutes(minutes, hours)
    if len(hours) == 24:
        return often
    return f"{often} between {_spans(hours)}" if _is_one_span(hours) else f"{often} in hours {_ranges(hours)}"


def _at_minutes(minutes: Numbers, hours: Numbers) -> str:
    step = _even_step(hours, 24)
    if step and len(hours) > 1:
        every = "every hour" if step == 1 else f"every {step} hours"
    else:
        every = f"in hours {_ranges(hours)}"
    if tuple(minutes) == (0,):
        return f"{every} on the hour"
    return f"{every} at minute{'s' if len(minutes) > 1 else ''} {_ranges(minutes)}"


def _even_step(numbers: Numbers, size: int) -> int:
    """Return the step if the numbers go evenly round the clock from 0, else 0."""
    step = size // len(numbers)
    return step if list(numbers) == list(range(0, size, step)) and step * len(numbers) == size else 0


def _is_one_span(numbers: Numbers) -> bool:
    return numbers[-1] - numbers[0] == len(numbers) - 1


def _spans(hours: Numbers) -> str:
    return f"{hours[0]:02}:00 and {hours[-1]:02}:59"


def _ranges(numbers: Numbers) -> str:
    """Return "1-5, 9" for 1, 2, 3, 4, 5, 9: runs of three and more are drawn together."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [
        word for run in runs for word in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(n) for n in run])
    ]
    return ", ".join(words)


def _listed(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last
