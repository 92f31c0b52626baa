"""LangGraph's store operations and items, as the engine's values: checked and translated. Pure.

Everything is refused here that LangGraph's own stores refuse, but for one rule: a label may hold a dot,
because namespaces are kept label by label, and mail addresses are what users are called by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
)

from memos_engine import BadInput, BadLimit, BadName, BadTime, KvDelete, KvEntry, KvPut

_NO_FIELD = frozenset("'\"`;\\")
"""What no field is called, and what an injected query needs."""


class InvalidNamespace(BadName, InvalidNamespaceError):
    """A namespace that no store of LangGraph takes: an empty label, no text, or one with a NUL."""


def checked_op(op: Op) -> Op:
    """Return an operation unchanged.

    Raises:
        InvalidNamespace: a label of it cannot be one.
        BadInput: it is none, or its filter, limit or offset cannot be taken.
    """
    if isinstance(op, (GetOp, PutOp)):
        check_labels(op.namespace)
    elif isinstance(op, SearchOp):
        check_labels(op.namespace_prefix)
        check_page(op.limit, op.offset)
        _check_fields(op.filter or {})
    elif isinstance(op, ListNamespacesOp):
        check_page(op.limit, op.offset)
        for condition in op.match_conditions or ():
            _check_condition(condition)
        if op.max_depth is not None and (not isinstance(op.max_depth, int) or op.max_depth < 1):
            raise BadLimit(f"max_depth is {op.max_depth!r}: it must be a whole number from 1, or None")
    else:
        raise BadInput(
            f"an operation is a {type(op).__name__}: hand over a GetOp, SearchOp, PutOp or ListNamespacesOp"
        )
    return op


def check_labels(namespace: Iterable[object]) -> None:
    """Refuse what no label may be; dots are welcome.

    Raises:
        InvalidNamespace: a label is empty, no text, or holds a NUL.
    """
    if isinstance(namespace, str) or not isinstance(namespace, (tuple, list)):
        raise InvalidNamespace(
            f"namespace is {namespace!r:.80}: hand over its labels, as in ('memories', 'alice')"
        )
    for label in namespace:
        if not isinstance(label, str):
            raise InvalidNamespace(
                f"namespace {namespace!r:.80} holds a {type(label).__name__}: labels are texts"
            )
        if not label or "\0" in label:
            raise InvalidNamespace(
                f"namespace {namespace!r:.80} holds the label {label!r:.40}: a label has a character, and no NUL"
            )


def check_place(namespace: tuple[str, ...]) -> None:
    """Refuse what `put` of LangGraph's stores refuses beyond labels.

    Raises:
        InvalidNamespace: it is empty, or under the label that LangGraph keeps for itself.
    """
    if not namespace:
        raise InvalidNamespace("namespace is empty: an item lives under one label at least")
    if namespace[0] == "langgraph":
        raise InvalidNamespace(
            f"namespace {namespace!r:.80} begins with 'langgraph', which is LangGraph's own: choose another label"
        )


def check_page(limit: object, offset: object) -> None:
    """Refuse what cannot be a page.

    Raises:
        BadLimit: the limit or the offset is no whole number from 0.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadLimit(f"{name} is {value!r:.80}: it must be a whole number from 0")


def _check_condition(condition: MatchCondition) -> None:
    if condition.match_type not in ("prefix", "suffix"):
        raise BadInput(f"match_type is {condition.match_type!r}: choose 'prefix' or 'suffix'")
    check_labels(condition.path)


def _check_fields(condition: object) -> None:
    """Refuse names in a filter that only an attempt at injection has; the engine checks all else."""
    pending = [condition]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            for name in part:
                if isinstance(name, str) and (_NO_FIELD.intersection(name) or not name.isprintable()):
                    raise BadInput(
                        f"Invalid filter key {name!r}: name a field of the value, as in 'a' or 'a.b'"
                    )
            pending += part.values()
        elif isinstance(part, (list, tuple)):
            pending += part


def matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    """Whether a namespace begins, or ends, with a path in which `*` stands for any label."""
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    return all(wanted in ("*", label) for label, wanted in zip(namespace[start:], path, strict=False))


def last_writes(ops: Iterable[Op]) -> Iterator[PutOp]:
    """The last `PutOp` of each namespace and key, in order of the first."""
    last: dict[tuple[tuple[str, ...], str], PutOp] = {}
    for op in ops:
        if isinstance(op, PutOp):
            last[tuple(op.namespace), op.key] = op
    return iter(last.values())


def to_write(op: PutOp, fields: tuple[str, ...] | None, *, embed: bool) -> KvPut | KvDelete:
    """What a `PutOp` means to the engine.

    Args:
        op: A value, or None for deletion.
        fields: Paths that are indexed where the operation names none; None for the whole value. `()`: nothing
            is, whatever the operation says, as in LangGraph's stores without an index.
        embed: Whether vectors are made.

    Raises:
        BadTime: its ttl is no length of time.
    """
    namespace = tuple(op.namespace)
    if op.value is None:
        return KvDelete(namespace, op.key)
    if isinstance(op.index, str):
        raise BadInput(
            f"index is the text {op.index!r}: hand over a list of paths, as in index=[{op.index!r}]"
        )
    paths = fields if op.index is None or fields == () else tuple(op.index or ())
    return KvPut(namespace, op.key, op.value, False if paths == () else paths, to_ttl(op.ttl), embed)


def to_ttl(minutes: float | None) -> timedelta | None:
    """Minutes as the engine counts time.

    Raises:
        BadTime: it is no number, not positive, or beyond all calendars.
    """
    if minutes is None:
        return None
    try:
        ttl = timedelta(minutes=minutes)
    except (TypeError, ValueError, OverflowError) as exc:
        raise BadTime(f"ttl is {minutes!r}: it must be a number of minutes, or None for ever") from exc
    if ttl <= timedelta(0):
        raise BadTime(f"ttl is {minutes!r} minutes: it must be more than none, or None for ever")
    return ttl


def to_item(entry: KvEntry | None) -> Item | None:
    """An entry as what `get` returns; its value is a copy of its own."""
    if entry is None:
        return None
    return Item(
        value=dict(entry.value), key=entry.key, namespace=entry.namespace,
        created_at=entry.created_at, updated_at=entry.updated_at,
    )  # fmt: skip


def to_search_item(entry: KvEntry) -> SearchItem:
    """An entry as what `search` returns."""
    return SearchItem(
        entry.namespace, entry.key, dict(entry.value), entry.created_at, entry.updated_at, entry.score
    )


def query_of(op: SearchOp) -> str | None:
    """The query, if it says something."""
    query: Any = op.query
    if query is None or (isinstance(query, str) and not query.strip()):
        return None
    if not isinstance(query, str):
        raise BadInput(f"query is a {type(query).__name__}: hand over a text")
    return query.replace("\0", " ")
