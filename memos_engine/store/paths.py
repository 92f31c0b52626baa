"""Field paths into a JSON value: `a.b`, `a[0]`, `a[-1]`, `a[*].b`, `a.*`, `a.{b,c.d}`, `$` for the whole. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from memos_engine.errors import BadInput

_STEP = re.compile(r"(?P<name>[^.\[\]{}]+)|\[(?P<place>\*|-?\d+)\]|\{(?P<several>[^{}]+)\}|\.")


def texts_at(value: Mapping[str, Any], path: str) -> list[str]:
    """The texts that stand at `path`, in order; none where the path leads nowhere. Objects come as JSON.

    Raises:
        BadInput: the path cannot be read.
    """
    found = [value] if path == "$" else _at(value, path)
    return [
        text
        for each in found
        for text in [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)]
        if each is not None and text.strip()
    ]


def _at(value: Any, path: str) -> list[Any]:
    """What stands at a path."""
    found: list[Any] = [value]
    for step in list(_steps(path)):  # all are read before the first is gone
        found = [inner for outer in found for inner in _step(outer, step)]
    return found


def _steps(path: str) -> Iterator[re.Match[str]]:
    end = 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            break
        end = step.end()
        if step[0] != ".":
            yield step
    if end != len(path) or not path.strip("."):
        raise BadInput(
            f"index path {path!r} cannot be read: write it as 'a.b', 'a[0]', 'a[*].b', 'a.*', '{{a,b}}' or '$'"
        )


def _step(value: Any, step: re.Match[str]) -> list[Any]:
    if step["several"] is not None:
        return [inner for path in step["several"].split(",") for inner in _at(value, path.strip())]
    if step["name"] == "*":
        return _all(value)
    if step["name"] is not None:
        return [value[step["name"]]] if isinstance(value, Mapping) and step["name"] in value else []
    if not isinstance(value, list):
        return []
    if step["place"] == "*":
        return list(value)
    index = int(step["place"])
    return [value[index]] if -len(value) <= index < len(value) else []


def _all(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list) else []
