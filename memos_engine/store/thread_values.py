"""What threads are made of, what may enter one, and which blobs a condition means. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memos_engine.errors import BadInput, BadLimit, BadName, BadText
from memos_engine.items import Json
from memos_engine.store.rows import dumps

NAME_CHARACTERS_MAX = 4_096
"""Frameworks join nested names into one; longer ones would not serve as keys."""
ENTRY_BYTES_MAX = 16 * 2**20
BLOB_BYTES_MAX = 256 * 2**20
INTEGER_MAX = 2**63 - 1
"""Largest number that SQLite holds."""


@dataclass(frozen=True, slots=True)
class ThreadEntry:
    """One entry of a thread's log."""

    position: int
    """From 1, rising with every append; never reused while the thread is there."""
    id: str | None
    """The caller's own id, unique within the thread. None means it has none."""
    value: Mapping[str, Json]
    at: datetime
    """When it was appended."""


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """What a list of threads says of one."""

    name: str
    entries: int
    blobs: int
    created_at: datetime
    updated_at: datetime
    """The latest change of an entry or a blob, or up to a second before it."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of a thread, one per (space, key, version); their meaning is the caller's."""

    space: str
    """What sort of thing it is, such as `checkpoint` or `write`."""
    key: str
    """May be empty: a framework's default namespace often is."""
    version: str
    """Compared as text: pad numbers with zeros."""
    kind: str
    """How `data` is encoded, in the caller's words; may be empty."""
    data: bytes


def check_name(name: object, what: str, *, empty: bool = False) -> str:
    """Return `name` unchanged; every other string than these is a name.

    Raises:
        BadName: it is no string, empty, over-long, or holds NUL or lone surrogates.
    """
    if not isinstance(name, str):
        raise BadName(f"{what} is a {type(name).__name__}, not a str: hand over its name")
    if (not name and not empty) or len(name) > NAME_CHARACTERS_MAX:
        least = 0 if empty else 1
        raise BadName(f"{what} {name[:40]!r} must have {least} to {NAME_CHARACTERS_MAX:,} characters")
    if "\x00" in name or not _encodes(name):
        raise BadName(f"{what} {name[:40]!r} holds a NUL or a lone surrogate: remove it")
    return name


def check_number(value: object, what: str) -> int:
    """Return `value`, which must be a whole number of at least 0.

    Raises:
        BadLimit: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INTEGER_MAX:
        raise BadLimit(f"{what} is {value!r}: it must be a whole number of at least 0")
    return value


def check_limit(value: object) -> int:
    """Return the limit as SQLite takes it: None, no limit, is -1.

    Raises:
        BadLimit: it is negative or no whole number.
    """
    return -1 if value is None else check_number(value, "limit")


def entry_column(value: Mapping[str, Json], what: str) -> str:
    """A JSON object as its column; equal objects have equal columns.

    Raises:
        BadInput: it is no JSON object, or would come back changed, as a tuple or an int key would.
        BadText: it holds lone surrogates, or has more than ENTRY_BYTES_MAX bytes.
    """
    if not isinstance(value, Mapping):
        raise BadInput(
            f"{what} is a {type(value).__name__}: hand over a JSON object, as in {{'text': '...'}}"
        )
    plain = dict(value)
    try:
        column = dumps(plain)
        kept = json.loads(column) == plain
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadInput(
            f"{what} is not JSON ({exc}): use str, numbers, bool, None, lists and dicts only"
        ) from exc
    if not kept:
        raise BadInput(f"{what} would not come back from JSON as it is: use str keys, and lists for tuples")
    if not _encodes(column):
        raise BadText(f"{what} holds a lone surrogate: repair the text before")
    if len(column) > ENTRY_BYTES_MAX // 4 and len(column.encode()) > ENTRY_BYTES_MAX:
        raise BadText(f"{what} has more than {ENTRY_BYTES_MAX:,} bytes: keep large things as blobs")
    return column


def same_json(one: str, other: str) -> bool:
    """Whether two columns of `entry_column` hold the same object; the order of keys tells nothing."""
    if one == other:
        return True
    return json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)


def blob_row(blob: Blob) -> tuple[str, str, str, str, bytes]:
    """A blob's columns.

    Raises:
        BadName: one of its names cannot be taken.
        BadInput: `data` is not bytes, or has more than BLOB_BYTES_MAX of them.
    """
    if not isinstance(blob, Blob):
        raise BadInput(f"{type(blob).__name__} is no Blob: hand over Blob(space, key, version, kind, data)")
    if not isinstance(blob.data, (bytes, bytearray, memoryview)) or len(blob.data) > BLOB_BYTES_MAX:
        raise BadInput(
            f"data of blob ({blob.space!r}, {blob.key!r}) must be bytes, at most {BLOB_BYTES_MAX:,} of them"
        )
    return (
        check_name(blob.space, "blob space"),
        check_name(blob.key, "blob key", empty=True),
        check_name(blob.version, "blob version"),
        check_name(blob.kind, "blob kind", empty=True),
        bytes(blob.data),
    )


def check_positions(positions: Collection[int]) -> list[int]:
    """Return the positions as a list.

    Raises:
        BadLimit: one is negative or no whole number.
    """
    return [check_number(position, "position") for position in positions]


def blobs_where(
    space: str | None = None,
    *,
    keys: Sequence[str] | None = None,
    versions: Sequence[str] | None = None,
    exactly: Sequence[tuple[str, str]] | None = None,
    named: Sequence[tuple[str, str, str]] | None = None,
    prefix: str | None = None,
    before: str | None = None,
) -> tuple[str, list[Any]]:
    """The SQL condition on a thread's blobs; the thread's number is its first value."""
    terms, values = ["thread = ?"], list[Any]()
    if space is not None:
        terms.append("space = ?")
        values.append(check_name(space, "space"))
    for column, names in (
        ("key", _checked_names(keys, "keys", empty=True)),
        ("version", _checked_names(versions, "versions")),
    ):
        if names is not None and len(names) == 1:  # an equality, so that the index also gives the order
            terms.append(f"{column} = ?")
            values.append(names[0])
        elif names is not None:
            terms.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(dumps(names))
    if exactly is not None:
        terms.append("(key, version) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))")
        values.append(dumps([_checked_pair(pair) for pair in exactly]))
    if named is not None:
        terms.append(
            "(space, key, version) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))"
        )
        values.append(dumps([_checked_triple(triple) for triple in named]))
    if prefix:
        terms.append("key >= ? AND substr(key, 1, ?) = ?")
        check_name(prefix, "prefix")
        values += [prefix, len(prefix), prefix]
    if before is not None:
        terms.append("version < ?")
        values.append(check_name(before, "before"))
    return " AND ".join(terms), values


def _checked_names(names: Sequence[str] | None, what: str, *, empty: bool = False) -> list[str] | None:
    """Return the names as a list, or None.

    Raises:
        BadName: one is no name, or `names` is one string.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise BadName(f"{what} is one str, {names[:40]!r}: hand over a list of them")
    return [check_name(name, what, empty=empty) for name in names]


def _checked_pair(pair: tuple[str, str]) -> list[str]:
    """Return a pair of a blob's key and version as a list.

    Raises:
        BadName: it is no such pair.
    """
    if isinstance(pair, str) or len(pair) != 2:
        raise BadName(f"{pair!r:.60} is no pair of a key and a version")
    return [check_name(pair[0], "blob key", empty=True), check_name(pair[1], "blob version")]


def _checked_triple(triple: tuple[str, str, str]) -> list[str]:
    """Return a triple of a blob's space, key and version as a list.

    Raises:
        BadName: it is no such triple.
    """
    if isinstance(triple, str) or len(triple) != 3:
        raise BadName(f"{triple!r:.60} is no triple of a space, a key and a version")
    return [check_name(triple[0], "blob space"), *_checked_pair(triple[1:])]


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
