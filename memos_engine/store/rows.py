"""Items as rows: the one place that knows the column order, the time unit and the JSON columns. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from memos_engine.items import Json, MemoryItem, Source, State
from memos_engine.store.words import indexed_form
from memos_engine.times.wording import date_words

LIVE: tuple[State, ...] = ("generated", "activated", "frozen")
"""States that recall sees."""
NODES = ("concept", "topic")
"""Kinds that are nodes of the tree, not memories: never in words or vectors."""
LABEL_END = "\x1f"
"""Ends each label of a namespace in its column, so that a prefix never matches half a label."""
_ESCAPE = "\x1e"
"""Begins what stands in a label for itself or LABEL_END, so that a label may hold any character."""

COLUMNS = (
    "id", "kind", "tier", "text", "namespace", "key", "value", "role", "speaker", "thread", "session", "author",
    "message_id", "event_at", "valid_from", "valid_to", "expires_at", "created_at", "updated_at", "state", "version",
    "confidence", "priority", "tags", "sources", "visibility", "origin", "ttl",
)  # fmt: skip
SELECT_ITEM = "SELECT n, " + ", ".join(f"i.{column}" for column in COLUMNS) + " FROM items i"
INSERT_ITEM = (
    f"INSERT INTO items (n, {', '.join(COLUMNS)}, message_key, indexed) "
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 3))})"
)

LAST_MICRO = 253_402_300_799_999_999
"""The last microsecond that a datetime can hold."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class View:
    """Through whose eyes a read looks. Rights on the cube were checked before."""

    principal: str | None
    """None: the root's handle, which sees all; even a cube's owner does not see what others keep private in it."""
    session: str | None
    now: int
    """Microseconds: what has expired by then is not seen."""


def to_micros(at: datetime | None) -> int | None:
    """Microseconds since 1970 UTC of an aware time."""
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int | None) -> datetime | None:
    """The UTC time that `to_micros` wrote."""
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def dumps(value: object) -> str:
    """Compact JSON with every character as it is; refuses NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def namespace_column(namespace: tuple[str, ...]) -> str:
    """A namespace as its column; a prefix of labels is a prefix of the column."""
    return "".join(
        label.replace(_ESCAPE, f"{_ESCAPE}0").replace(LABEL_END, f"{_ESCAPE}1") + LABEL_END
        for label in namespace
    )


def namespace_labels(column: str) -> tuple[str, ...]:
    """The labels that `namespace_column` joined."""
    return tuple(
        label.replace(f"{_ESCAPE}1", LABEL_END).replace(f"{_ESCAPE}0", _ESCAPE)
        for label in column.split(LABEL_END)[:-1]
    )


def to_row(item: MemoryItem) -> tuple[Any, ...]:
    """The item's values in the order of COLUMNS."""
    message_id, sources = _own_message(item)
    return (
        item.id, item.kind, item.tier, item.text, namespace_column(item.namespace), item.key,
        None if item.value is None else dumps(item.value), item.role, item.speaker, item.thread, item.session,
        item.author, message_id, to_micros(item.event_at), to_micros(item.valid_from), to_micros(item.valid_to),
        to_micros(item.expires_at), to_micros(item.created_at), to_micros(item.updated_at), item.state, item.version,
        item.confidence, item.priority, dumps(item.tags) if item.tags else None, sources, item.visibility, item.origin,
        None if item.ttl is None else item.ttl // _MICROSECOND,
    )  # fmt: skip


def _own_message(item: MemoryItem) -> tuple[str | None, str | None]:
    """An episode's only source is its own turn: two columns say it without JSON."""
    if item.kind == "episode" and len(item.sources) == 1 and item.sources[0].thread == item.thread:
        source = item.sources[0]
        if source == Source(message_id=source.message_id, thread=item.thread):
            return source.message_id, None
    if not item.sources and item.kind != "episode":
        return None, None
    return None, dumps([_source_json(source) for source in item.sources])


def _source_json(source: Source) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "message_id": source.message_id, "thread": source.thread, "document": source.document, "url": source.url,
        "span": None if source.span is None else list(source.span),
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


def _sources(text: str | None, kind: str, thread: str, message_id: str | None) -> tuple[Source, ...]:
    if text is None:
        return (Source(message_id=message_id, thread=thread),) if kind == "episode" else ()
    found = []
    for fields in json.loads(text):
        span = fields.pop("span", None)
        found.append(Source(**fields, span=None if span is None else (span[0], span[1])))
    return tuple(found)


def to_item(cube: str, row: tuple[Any, ...]) -> MemoryItem:
    """The item of a row in the order of COLUMNS."""
    (id_, kind, tier, text, namespace, key, value, role, speaker, thread, session, author, message_id, event_at,
     valid_from, valid_to, expires_at, created_at, updated_at, state, version, confidence, priority, tags, sources,
     visibility, origin, ttl) = row  # fmt: skip
    return MemoryItem(
        id_, cube, kind, text, tier, namespace_labels(namespace), key, None if value is None else json.loads(value),
        role, speaker, thread, session, author, from_micros(event_at), from_micros(valid_from), from_micros(valid_to),
        from_micros(expires_at), from_micros(created_at), from_micros(updated_at), state, version, confidence,
        priority, tuple(json.loads(tags)) if tags else (), _sources(sources, kind, thread, message_id), visibility,
        origin, None if ttl is None else ttl * _MICROSECOND,
    )  # fmt: skip


def words_of(speaker: str | None, text: str, event_at: datetime | None) -> str:
    """The string that keyword search indexes for an item: speaker, text and date."""
    said = f"{speaker}: {text}" if speaker else text
    return indexed_form(said if event_at is None else f"{said}\n{date_words(event_at)}")


def words_of_row(columns: Mapping[str, Any]) -> str:
    """The same for an item's columns."""
    return words_of(columns["speaker"], columns["text"], from_micros(columns["event_at"]))


def is_live(item: MemoryItem, now: int) -> bool:
    """Whether reads see an item at `now`, in microseconds: of a live state, and its time not over."""
    ends = to_micros(item.expires_at)
    return item.state in LIVE and (ends is None or ends > now or item.state == "frozen")


def is_indexed(item: MemoryItem) -> bool:
    """Whether an item belongs in words and vectors, by its kind and state alone."""
    return item.kind not in NODES and item.state in LIVE
