"""What may stand in a key-value entry: names of places, JSON objects, indexed words. Pure.

A label or a key may be anything a framework calls its users by: mail addresses, paths, any script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from memos_engine.capture.validate import TEXT_BYTES_MAX, check_text
from memos_engine.errors import BadName, BadText, BadValue
from memos_engine.items import Json
from memos_engine.store.paths import texts_at

LABELS_MAX = 32
NAME_CHARACTERS_MAX = 2_048
"""Of a label or a key: longer than any URL that is one."""
DEPTH_MAX = 100
"""Levels of a value; JSON readers in other languages stop not far above."""


def check_label(name: object, what: str) -> str:
    """Return a label or a key unchanged.

    Raises:
        BadName: it is no string, empty, over-long, or holds a NUL or a lone surrogate.
    """
    if not isinstance(name, str):
        raise BadName(f"{what} is a {type(name).__name__}, not a str: hand over its name")
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise BadName(f"{what} {name[:40]!r} must have 1 to {NAME_CHARACTERS_MAX:,} characters")
    if "\0" in name:
        raise BadName(f"{what} {name[:40]!r} holds a NUL: remove it")
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise BadName(
            f"{what} {name[:40]!r} holds a lone surrogate at character {exc.start}: repair it with "
            "name.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from exc
    return name


def check_namespace(namespace: Sequence[str]) -> tuple[str, ...]:
    """Return the namespace as a tuple of checked labels.

    Raises:
        BadName: it is one string, too deep, or a label cannot be taken.
    """
    if isinstance(namespace, (str, bytes)) or not isinstance(namespace, Sequence):
        raise BadName(f"namespace is {namespace!r:.80}: hand over its labels, as in ('users', 'alice')")
    if len(namespace) > LABELS_MAX:
        raise BadName(f"namespace has {len(namespace)} labels: at most {LABELS_MAX} are kept")
    return tuple(check_label(label, "a namespace label") for label in namespace)


def fits(labels: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether labels are those of a pattern, in which `*` stands for any."""
    return len(labels) == len(pattern) and all(
        wanted in ("*", label) for label, wanted in zip(labels, pattern, strict=True)
    )


def json_text(value: Mapping[str, Json]) -> str:
    """A value as JSON.

    Raises:
        BadValue: it is no JSON object, or nests too deep.
        BadText: it is too long, or a text in it is not valid Unicode.
    """
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise BadValue(f"value is a {type(value).__name__}: hand over a JSON object, a dict with str keys")
    try:
        text = json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadValue(
            f"value is no JSON object ({exc}): keep str, numbers, bool, None, list and dict only"
        ) from exc
    if _depth(value) > DEPTH_MAX:
        raise BadValue(f"value nests deeper than {DEPTH_MAX} levels: flatten it")
    if len(text.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise BadText(f"value has more than {TEXT_BYTES_MAX:,} bytes as JSON: split it")
    return check_text(text, "value")


def words_at(value: Mapping[str, Json], paths: Sequence[str]) -> str:
    """What keyword search reads of a value: the texts at its indexed paths.

    Raises:
        BadInput: a path cannot be read.
    """
    found = "\n".join(text for path in paths for text in texts_at(value, path))
    return found.replace("\0", " ")  # a value may hold NULs; FTS5 would read no further


def _depth(value: object) -> int:
    """Levels of objects and lists, level by level: no recursion that a hostile value could exhaust."""
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list, tuple))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
    return depth - 1
