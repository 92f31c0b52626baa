"""What may enter a cube: text, names, times and numbers, refused with the cure. Pure.

Every refusal happens before anything is written, so the store is as it was.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from memos_engine.errors import BadInput, BadLimit, BadName, BadText, BadTime
from memos_engine.items import Message, Scope, Source

T = TypeVar("T")

TEXT_BYTES_MAX = 4 * 2**20
"""A longer text is a document: split it. One turn of 4 MiB is about 1,500 pages."""
NAME_CHARACTERS_MAX = 512
MESSAGES_MAX = 100_000
LIMIT_MAX = 100_000
_FLOAT_MAX = sys.float_info.max
_SPAN_MAX = 2**62
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_text(text: object, what: str = "text") -> str:
    """Return `text` unchanged.

    Raises:
        BadText: it is no string, blank, longer than TEXT_BYTES_MAX, or holds NUL or lone surrogates.
    """
    if not isinstance(text, str):
        raise BadText(f"{what} is a {type(text).__name__}, not a str: hand over its text")
    if not text.strip():
        raise BadText(f"{what} is blank ({text[:20]!r}): leave it out, or hand over some words")
    _check_characters(text, what, BadText)
    if len(text) > TEXT_BYTES_MAX // 4 and len(text.encode()) > TEXT_BYTES_MAX:
        raise BadText(f"{what} has more than {TEXT_BYTES_MAX:,} bytes: split it into parts and add each")
    return text


def _check_characters(text: str, what: str, error: type[BadInput]) -> None:
    if "\x00" in text:
        raise error(
            f"{what} holds a NUL at character {text.index(chr(0))}: remove it with text.replace('\\0', '')"
        )
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise error(
            f"{what} holds a lone surrogate at character {exc.start}: repair it with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from exc


def check_name(name: object, what: str) -> str:
    """Return `name` unchanged.

    Raises:
        BadName: it is no string, blank, over-long, or holds control characters or lone surrogates.
    """
    if not isinstance(name, str):
        raise BadName(f"{what} is a {type(name).__name__}, not a str: hand over its name")
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX:
        raise BadName(f"{what} {name[:40]!r} must have 1 to {NAME_CHARACTERS_MAX} characters, not all blank")
    _check_characters(name, what, BadName)
    if _CONTROL.search(name):
        raise BadName(f"{what} {name!r} holds a control character: remove it")
    return name


def check_time(at: datetime | None, what: str) -> datetime | None:
    """Return `at` in UTC.

    Raises:
        BadTime: it has no time zone, or is no datetime.
    """
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise BadTime(
            f"{what} is a {type(at).__name__}, not a datetime: parse it with datetime.fromisoformat"
        )
    if at.utcoffset() is None:
        raise BadTime(
            f"{what} {at.isoformat()} has no time zone: say which, as in at.replace(tzinfo=timezone.utc)"
        )
    try:
        return at.astimezone(UTC)
    except OverflowError as exc:
        raise BadTime(f"{what} {at!r} lies outside the years 1 to 9999 in UTC: hand over another") from exc


def check_limit(value: object, what: str, *, least: int = 1, most: int = LIMIT_MAX) -> int:
    """Return `value`, which must be an int within [least, most].

    Raises:
        BadLimit: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadLimit(f"{what} is {_shown(value)}: it must be a whole number from {least:,} to {most:,}")
    return value


def _shown(value: object) -> str:
    """A value as a message shows it: no message is as long as what was handed over."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "beyond 20 digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def check_share(value: object, what: str) -> float:
    """Return `value`, which must be a number within [0, 1].

    Raises:
        BadLimit: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BadLimit(f"{what} is {_shown(value)}: it must be a number from 0 to 1")
    return float(value)


def check_scope(scope: Scope) -> Scope:
    """Return `scope` unchanged.

    Raises:
        BadInput: it is no Scope.
        BadName: a name in it cannot be taken.
    """
    if not isinstance(scope, Scope):
        raise BadInput(f"scope is a {type(scope).__name__}: make it a Scope, as in Scope(user='alice')")
    for name, value in (("user", scope.user), ("agent", scope.agent), ("session", scope.session)):
        if value is not None:
            check_name(value, f"Scope.{name}")
    return scope


def check_messages(messages: Sequence[Message]) -> list[Message]:
    """Return the messages as a list, each checked.

    Raises:
        BadInput: one cannot be taken (the leaf says why, the message says which), or there are too many.
    """
    if isinstance(messages, (str, bytes, Message)) or not isinstance(messages, Iterable):
        raise BadInput(
            f"messages is one {type(messages).__name__}: hand over a list, as in [Message('user', text)]"
        )
    found = list(messages)
    check_limit(len(found), "the number of messages", least=0, most=MESSAGES_MAX)
    for place, message in enumerate(found):
        if not isinstance(message, Message):
            raise BadInput(f"messages[{place}] is a {type(message).__name__}: make it a Message(role, text)")
        check_text(message.text, f"messages[{place}].text")
        check_name(message.role, f"messages[{place}].role")
        for value, what in ((message.id, "id"), (message.name, "name")):
            if value is not None:
                check_name(value, f"messages[{place}].{what}")
        check_time(message.at, f"messages[{place}].at")
    return found


def check_choice(value: object, known: Sequence[T], what: str) -> T:
    """Return `value`, which must be one of `known`.

    Raises:
        BadInput: it is not.
    """
    for choice in known:
        if value == choice:
            return choice
    raise BadInput(f"{what} is {_shown(value)}: choose one of {', '.join(map(str, known))}")


def check_finite(value: object, what: str) -> float:
    """Return `value`, which must be a finite number.

    Raises:
        BadLimit: it is not.
    """
    if not isinstance(value, bool) and isinstance(value, (int, float)) and abs(value) <= _FLOAT_MAX:
        return float(value)
    raise BadLimit(f"{what} is {_shown(value)}: it must be a finite number")


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags as a tuple, each a name.

    Raises:
        BadName: one is not.
    """
    return tuple(check_name(tag, "a tag") for tag in check_several(tags, "tags", BadName))


def check_several(values: object, what: str, error: type[BadInput] = BadInput) -> list[object]:
    """Return several values as a list.

    Raises:
        BadInput: it is one value, or none; `error` says which leaf.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise error(f"{what} is {_shown(values)}: hand over a list, as in {what}=[...]")
    return list(values)


def check_source(source: object) -> Source | None:
    """Return `source` unchanged.

    Raises:
        BadInput: it is no Source, or a field of it cannot be taken.
    """
    if source is None:
        return None
    if not isinstance(source, Source):
        raise BadInput(f"source is a {type(source).__name__}: make it a Source(document=...)")
    for name in ("message_id", "thread", "document", "url"):
        if getattr(source, name) not in (None, ""):
            check_text(getattr(source, name), f"source.{name}")
    span: object = source.span
    if span is None:
        return source
    if not isinstance(span, tuple) or len(span) != 2 or not all(type(end) is int for end in span):
        raise BadInput(f"source.span is {_shown(span)}: hand over (start, end) in characters")
    start, end = span
    if not 0 <= start <= end <= _SPAN_MAX:
        raise BadInput(f"source.span is {_shown(span)}: start and end go from 0, in order")
    return source


def check_ttl(ttl: timedelta | None, now: datetime) -> datetime | None:
    """The moment `ttl` ends; None for ever.

    Raises:
        BadTime: it is not positive, or beyond the year 9999.
    """
    if ttl is None:
        return None
    if not isinstance(ttl, timedelta) or ttl <= timedelta(0):
        raise BadTime(f"ttl is {ttl!r}: it must be a positive timedelta, or None for ever")
    try:
        return now + ttl
    except OverflowError as exc:
        raise BadTime(f"ttl {ttl!r} ends beyond the year 9999: leave it out for ever") from exc
