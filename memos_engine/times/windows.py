"""Calendar windows around a moment: the arithmetic beneath `dates`.

Knows the calendar, not language. A window is half-open, `[start, end)`, in the moment's own time zone,
and never empty, not even in the hour that a change to summer time skips. Seasons are those of the
northern hemisphere; weeks begin on Monday, as in ISO 8601.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["minute", "hour", "day", "week", "month", "season", "year"]
Unit: TypeAlias = Literal["hour", "day", "week", "weekend", "month", "year"]
Tense: TypeAlias = Literal[-1, 0, 1]
"""Which way a sentence looks: -1 back, 1 ahead, 0 it does not say."""

SATURDAY = 5
SEASON_STARTS = {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}
"""First month of each season; winter runs into the next year."""
PARTS = {"early": (0, 6), "morning": (5, 12), "noon": (11, 14), "afternoon": (12, 18), "evening": (18, 24)}
"""Hours of a part of the day: from inclusive, to exclusive."""
NIGHT_HOURS = (18, 30)
"""A night begins in the evening and ends at six on the next day."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, as exact as the words that named it."""

    start: datetime
    """Inclusive, aware."""
    end: datetime
    """Exclusive, aware, after `start`."""
    precision: Precision
    """How exact the words were. A part of a day counts as `hour`, a weekend as `week`."""
    guessed: bool = False
    """Neither the words nor the sentence's tense tell which of several such days or months is meant."""


def day(at: datetime, offset: int = 0) -> Window:
    """Return the day `offset` days from that of `at`."""
    return on_date(at.date() + timedelta(days=offset), at.tzinfo)


def on_date(first: date, zone: tzinfo | None, days: int = 1) -> Window:
    """Return the window of one day, or of several that were named by their dates."""
    return _dates(first, first + timedelta(days=days), zone, "day")


def week(at: datetime, offset: int = 0) -> Window:
    """Return the calendar week `offset` weeks from that of `at`."""
    monday = at.date() + timedelta(days=7 * offset - at.weekday())
    return _dates(monday, monday + timedelta(days=7), at.tzinfo, "week")


def weekend(at: datetime, offset: int = 0) -> Window:
    """Return Saturday and Sunday of the calendar week `offset` weeks from that of `at`."""
    saturday = at.date() + timedelta(days=7 * offset - at.weekday() + SATURDAY)
    return _dates(saturday, saturday + timedelta(days=2), at.tzinfo, "week")


def month(at: datetime, offset: int = 0) -> Window:
    """Return the calendar month `offset` months from that of `at`."""
    return in_month(*_shift(at.year, at.month, offset), at.tzinfo)


def in_month(year_number: int, month_number: int, zone: tzinfo | None) -> Window:
    """Return one month of one year."""
    first, after = date(year_number, month_number, 1), date(*_shift(year_number, month_number, 1), 1)
    return _dates(first, after, zone, "month")


def season(name: str, year_number: int, zone: tzinfo | None) -> Window:
    """Return a season of the year in which it begins."""
    first = SEASON_STARTS[name]
    after = date(*_shift(year_number, first, 3), 1)
    return _dates(date(year_number, first, 1), after, zone, "season")


def year(at: datetime, offset: int = 0) -> Window:
    """Return the calendar year `offset` years from that of `at`."""
    return in_year(at.year + offset, at.tzinfo)


def in_year(year_number: int, zone: tzinfo | None) -> Window:
    """Return one calendar year."""
    return _dates(date(year_number, 1, 1), date(year_number + 1, 1, 1), zone, "year")


def units(at: datetime, unit: Unit, offset: int) -> Window:
    """Return the calendar unit that lies `offset` of its kind from `at`."""
    if unit == "hour":
        moment = at.astimezone(UTC) + timedelta(hours=offset)
        start = moment.astimezone(at.tzinfo).replace(minute=0, second=0, microsecond=0)
        return _hours(start, timedelta(hours=1), "hour")
    by_unit = {"day": day, "week": week, "weekend": weekend, "month": month, "year": year}
    return by_unit[unit](at, offset)


def weekday(at: datetime, number: int, tense: Tense) -> Window:
    """Return the nearest such weekday (Monday is 0) before or after today; today for tense 0."""
    ahead = (number - at.weekday()) % 7
    if tense < 0:
        return day(at, ahead - 7)
    return day(at, ahead if ahead or tense == 0 else 7)


def weekday_of_week(at: datetime, number: int, offset: int) -> Window:
    """Return a weekday of the calendar week `offset` weeks away."""
    return day(at, 7 * offset - at.weekday() + number)


def part(base: Window, name: str) -> Window:
    """Return a part of a day, such as its morning; `night` ends on the next day."""
    first, after = NIGHT_HOURS if name == "night" else PARTS[name]
    midnight = base.start.replace(hour=0, minute=0)
    return _hours(midnight + timedelta(hours=first), timedelta(hours=after - first), "hour")


def clock(base: Window, hour: int, minute: int | None) -> Window:
    """Return an hour of a day, or a minute where it was told.

    Raises:
        ValueError: There is no such time of day.
    """
    start = base.start.replace(hour=hour, minute=minute or 0)
    length = timedelta(hours=1) if minute is None else timedelta(minutes=1)
    return _hours(start, length, "hour" if minute is None else "minute")


def _dates(first: date, after: date, zone: tzinfo | None, precision: Precision) -> Window:
    return Window(
        datetime.combine(first, time(), zone),
        datetime.combine(after, time(), zone),
        precision,
    )


def _hours(start: datetime, length: timedelta, precision: Precision) -> Window:
    """Build a window by the wall clock, or by elapsed time where the clock was turned meanwhile."""
    end = start + length
    if start.astimezone(UTC) >= end.astimezone(UTC):
        end = (start.astimezone(UTC) + length).astimezone(start.tzinfo)
        start = start.astimezone(UTC).astimezone(start.tzinfo)
    return Window(start, end, precision)


def _shift(year_number: int, month_number: int, months: int) -> tuple[int, int]:
    total = year_number * 12 + month_number - 1 + months
    return total // 12, total % 12 + 1
