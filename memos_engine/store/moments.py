"""Known moments as columns: those of `store/rows.py`, for values that are never unknown. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Microseconds since 1970 UTC of an aware time."""
    return (at - _EPOCH) // _MICROSECOND


def instant(micros: int) -> datetime:
    """The UTC time of a number that `micros` returned."""
    return _EPOCH + timedelta(microseconds=micros)
