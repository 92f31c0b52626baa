"""Field paths into a JSON value: `a.b`, `a[0]`, `a[-1]`, `a[*].b`, `$` for the whole. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from memos_engine.errors import BadInput

_STEP = re.compile(r"([^.\[\]]+)|\[(\*|-?\d+)\]|(\.)")


def texts_at(value: Mapping[str, Any], path: str) -> list[str]:
    """The texts that stand at `path`, in order; none where the path leads nowhere. Objects come as JSON.

    Raises:
        BadInput: the path cannot be read.
    """
    found: list[Any] = [value]
    if path != "$":
        for name, place in _steps(path):
            found = [inner for outer in found for inner in _step(outer, name, place)]
    return [
        text
        for each in found
        for text in [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)]
        if each is not None and text.strip()
    ]


def _steps(path: str) -> list[tuple[str | None, str | None]]:
    steps: list[tuple[str | None, str | None]] = []
    end = 0
    for match in _STEP.finditer(path):
        if match.start() != end:
            break
        end = match.end()
        if match[3] is None:
            steps.append((match[1], match[2]))
    if end != len(path) or not steps:
        raise BadInput(f"index path {path!r} cannot be read: write it as 'a.b', 'a[0]', 'a[*].b' or '$'")
    return steps


def _step(value: Any, name: str | None, place: str | None) -> list[Any]:
    if name is not None:
        return [value[name]] if isinstance(value, Mapping) and name in value else []
    if not isinstance(value, list):
        return []
    if place == "*":
        return list(value)
    index = int(place or 0)
    return [value[index]] if -len(value) <= index < len(value) else []
