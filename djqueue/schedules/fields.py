"""The language of one crontab field: numbers, names, ranges, steps, lists.

What people write ("*/15", "mon-fri", "8-17/2", 5, {1, 15}) comes in; the sorted numbers it stands for leave,
with the canonical text. Ranges may wrap around (22-2). Mistakes say what was given and what to write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
#: how much of a name is needed
SHORTEST_NAME = 3

#: what the field of a crontab may be given as
Given = int | str | Iterable[int]


class ParseException(ValueError):
    """A crontab field that cannot be read."""


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five fields: its name, the numbers it may hold, and the names they go by."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()

    def read(self, given: Given) -> tuple[str, tuple[int, ...]]:
        """Return the canonical text and the sorted numbers that `given` stands for.

        Raises:
            TypeError: it is neither an int, a string nor a collection of ints.
            ParseException: it cannot be read, or holds a number outside of the field.
        """
        if isinstance(given, str):
            text = given.strip()
            return text, tuple(sorted(self._numbers(text)))
        numbers = sorted(set(self._plain_numbers(given)))
        if not numbers:
            raise ParseException(
                f'{self.name} is empty ({given!r}) and would never match; write "*" for any.'
            )
        for number in numbers:
            self._check(number, given)
        return ",".join(map(str, numbers)), tuple(numbers)

    def _plain_numbers(self, given: Given) -> list[int]:
        items: list[Any] = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise TypeError(
                f"{self.name} must be an int, a string such as '*/15' or '1-5', or a collection of ints;"
                f" {given!r} ({type(given).__name__}) was given."
            )
        return items

    def _numbers(self, text: str) -> set[int]:
        if not text:
            raise ParseException(f'{self.name} is empty; write "*" for any.')
        numbers: set[int] = set()
        for part in text.split(","):
            if not part.strip():
                raise ParseException(f"{self.name} is {text!r}: there is nothing before or after a comma.")
            numbers.update(self._part(part.strip(), text))
        return numbers

    def _part(self, part: str, text: str) -> list[int]:
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.strip().partition("-")
        if span.strip() == "*":
            values = list(range(self.least, self.most + 1))
        elif dash:
            values = self._span(self._number(first_text, text), self._number(last_text, text))
        elif slash:
            raise ParseException(
                f"{self.name} is {text!r}: a step needs a range before it; write"
                f" '{first_text}-{self.most}/{step_text}' or '*/{step_text}'."
            )
        else:
            values = [self._number(first_text, text)]
        return values[:: self._step(step_text, text)] if slash else values

    def _span(self, first: int, last: int) -> list[int]:
        if first <= last:
            return list(range(first, last + 1))
        return [*range(first, self.most + 1), *range(self.least, last + 1)]

    def _step(self, step_text: str, text: str) -> int:
        if not _is_number(step_text.strip()) or int(step_text) == 0:
            raise ParseException(
                f"{self.name} is {text!r}: the step after '/' must be a number from 1, not {step_text!r}."
            )
        return int(step_text)

    def _number(self, word: str, text: str) -> int:
        word = word.strip()
        if _is_number(word):
            return self._check(int(word), text)
        name = word.lower()
        if len(name) >= SHORTEST_NAME:
            for position, full in enumerate(self.names):
                if full.startswith(name):
                    return self.least + position
        raise ParseException(f"{self.name} is {text!r}: {self._advice(word)}")

    def _advice(self, word: str) -> str:
        if not word:
            return "a range needs a number before and after the '-'; negative numbers do not exist here."
        if word == "*":
            return "'*' stands alone or before a step ('*/5'); it cannot be one end of a range."
        known = [*self.names, *(name[:SHORTEST_NAME] for name in self.names)]
        near = get_close_matches(word.lower(), known, n=1, cutoff=0.5)
        if near:
            return f"{word!r} is not a name it knows; did you mean {near[0]!r}?"
        names = f" or a name such as {self.names[1][:3]!r}" if self.names else ""
        return f"{word!r} is neither '*' nor a number from {self.least} to {self.most}{names}."

    def _check(self, number: int, given: object) -> int:
        if self.least <= number <= self.most:
            return number
        hint = " Sunday is 0." if self.names is WEEKDAYS and number == self.most + 1 else ""
        raise ParseException(
            f"{self.name} is {given!r}: {number} is outside of {self.least} to {self.most}.{hint}"
        )


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY_OF_WEEK = Field("day_of_week", 0, 6, WEEKDAYS)
DAY_OF_MONTH = Field("day_of_month", 1, 31)
MONTH_OF_YEAR = Field("month_of_year", 1, 12, MONTHS)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()
