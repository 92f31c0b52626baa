"""Conditions on a JSON value, as key-value stores know them. Pure.

A path names a field, `a.b` going into objects; a key that holds a dot itself is tried first. A field
that is missing equals None, and nothing else. An unknown operator is an error, never an empty result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from memos_engine.errors import BadInput
from memos_engine.store.kv_rows import FieldTest

DEPTH_MAX = 100
"""Levels of a condition, as of a value."""
_MISSING = object()
_Condition = Mapping[str, Any]
_PLAIN_PATH = re.compile(r'[^"\\\x00-\x1f.]+(\.[^"\\\x00-\x1f.]+)*')
"""A path whose names stand in a JSON text as they are."""
_EXACT_MAX = 2**53
_SQL: Mapping[str, Literal["=", ">", ">=", "<", "<="]] = {
    "$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=",
}  # fmt: skip


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison that is false for missing or unlike values instead of failing."""

    def compared(found: Any, wanted: Any) -> bool:
        alike = isinstance(found, str) and isinstance(wanted, str)
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (found, wanted))
        return (alike or numbers) and compare(found, wanted)

    return compared


def _equal(found: Any, wanted: Any) -> bool:
    """JSON equality, at any depth: `true` is not 1, but 1 is 1.0."""
    if isinstance(found, list) and isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return found.keys() == wanted.keys() and all(_equal(found[name], wanted[name]) for name in found)
    if found is _MISSING:
        return wanted is None
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$gt": _ordered(lambda a, b: a > b),
    "$gte": _ordered(lambda a, b: a >= b),
    "$lt": _ordered(lambda a, b: a < b),
    "$lte": _ordered(lambda a, b: a <= b),
    "$in": lambda found, wanted: any(_equal(found, each) for each in wanted),
    "$nin": lambda found, wanted: not any(_equal(found, each) for each in wanted),
    "$exists": lambda found, wanted: (found is not _MISSING) == wanted,
    "$contains": lambda found, wanted: (
        (isinstance(found, list) and any(_equal(each, wanted) for each in found))
        or (isinstance(found, str) and isinstance(wanted, str) and wanted in found)
    ),
}


def validated(condition: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """Return the condition unchanged.

    Raises:
        BadInput: it is no mapping, nests too deep, or holds an unknown operator or a wrong operand.
    """
    if depth > DEPTH_MAX:
        raise BadInput(f"filter nests deeper than {DEPTH_MAX} levels: flatten it")
    if not isinstance(condition, Mapping):
        raise BadInput(f"filter is a {type(condition).__name__}: hand over a dict, as in {{'field': value}}")
    for name, wanted in condition.items():
        if not isinstance(name, str):
            raise BadInput(f"filter key {name!r} is no str: name a field or an operator")
        if name in ("$and", "$or"):
            if not isinstance(wanted, (list, tuple)) or not wanted:
                raise BadInput(f"{name} needs a list of conditions, not {wanted!r}")
            for part in wanted:
                validated(part, depth + 1)
        elif name.startswith("$"):
            raise BadInput(f"operator {name!r} needs a field before it, as in {{'age': {{'$gt': 3}}}}")
        elif _is_operators(wanted):
            _validate_operators(wanted)
        elif isinstance(wanted, Mapping):
            validated(wanted, depth + 1)
    return condition


def _is_operators(wanted: Any) -> bool:
    return isinstance(wanted, Mapping) and any(
        isinstance(name, str) and name.startswith("$") for name in wanted
    )


def _validate_operators(wanted: Mapping[str, Any]) -> None:
    for name, operand in wanted.items():
        if name not in _OPERATORS:
            raise BadInput(f"unknown operator {name!r}: known are {', '.join(_OPERATORS)}, $and, $or")
        if name in ("$in", "$nin") and not isinstance(operand, (list, tuple)):
            raise BadInput(f"{name} needs a list, not {operand!r}")
        if name == "$exists" and not isinstance(operand, bool):
            raise BadInput(f"$exists needs true or false, not {operand!r}")


def field_tests(condition: _Condition) -> tuple[FieldTest, ...]:
    """What of a validated condition a database may look at first; what meets the condition passes them all."""
    return tuple(
        test
        for path, wanted in condition.items()
        if _PLAIN_PATH.fullmatch(path) and not path.startswith("$")
        for test in _tests(path, wanted if _is_operators(wanted) else {"$eq": wanted})
    )


def _tests(path: str, operators: Mapping[str, Any]) -> Iterator[FieldTest]:
    """The comparisons with numbers that JSON and SQLite write alike, and equality with a text."""
    for name, operand in operators.items():
        if name not in _SQL:
            continue
        if isinstance(operand, int) and abs(operand) <= _EXACT_MAX:
            yield FieldTest(path, _SQL[name], int(operand))
        elif isinstance(operand, str) and name == "$eq" and "\0" not in operand:
            yield FieldTest(path, "=", operand)


def matches(condition: _Condition, value: Mapping[str, Any]) -> bool:
    """Whether `value` meets a validated condition; an empty one is met by all."""
    return all(_meets(name, wanted, value) for name, wanted in condition.items())


def _meets(name: str, wanted: Any, value: Mapping[str, Any]) -> bool:
    if name == "$and":
        return all(matches(part, value) for part in wanted)
    if name == "$or":
        return any(matches(part, value) for part in wanted)
    found = _field(value, name)
    if _is_operators(wanted):
        return all(_OPERATORS[operator](found, operand) for operator, operand in wanted.items())
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return matches(wanted, found)
    return _equal(found, wanted)


def _field(value: Mapping[str, Any], path: str) -> Any:
    if path in value:
        return value[path]
    found: Any = value
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = found[name]
    return found
