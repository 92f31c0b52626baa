"""Dates in words, as people write them and ask for them. Pure."""

from __future__ import annotations

from datetime import datetime

MONTHS = "January February March April May June July August September October November December".split()


def date_words(at: datetime) -> str:
    """A date as people write it and ask for it: `8 May 2023`."""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year:04}"


def spoken(text: str, speaker: str | None, at: datetime | None) -> str:
    """A turn as it is embedded: `[8 May 2023] Ann: text`, less what is not known."""
    said = f"{speaker}: {text}" if speaker else text
    return said if at is None else f"[{date_words(at)}] {said}"
