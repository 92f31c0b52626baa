"""The keyword arguments that cube methods share: their types, and what of them can be taken. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict, get_args

from memos_engine.capture.validate import (
    check_choice,
    check_finite,
    check_name,
    check_share,
    check_tags,
    check_text,
    check_time,
    check_ttl,
)
from memos_engine.errors import BadInput
from memos_engine.items import Filter, Kind, Source, State, Tier, Visibility

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("concept", "topic"))
"""Kinds of memories; nodes of the tree are made by the engine alone."""
TIERS: tuple[Tier, ...] = get_args(Tier)
STATES: tuple[State, ...] = get_args(State)
VISIBILITIES: tuple[Visibility, ...] = get_args(Visibility)


class Sought(TypedDict, total=False):
    """What a read looks among, in every thread."""

    kinds: Sequence[Kind]
    """Empty for every kind."""
    speaker: str
    since: datetime
    """Inclusive, on `event_at`."""
    until: datetime
    """Exclusive, on `event_at`."""
    states: Sequence[State]
    """States other than the live ones are found by `list` alone: they are in no index."""


class Wanted(Sought, total=False):
    """What a read looks among."""

    thread: str


class NewItem(TypedDict, total=False):
    """What `add` takes beside the text."""

    kind: Kind
    tier: Tier
    event_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    ttl: timedelta | None
    confidence: float
    priority: float
    tags: Sequence[str]
    source: Source | None
    visibility: Visibility


class ItemFields(TypedDict, total=False):
    """What `update` can change."""

    text: str
    kind: Kind
    tier: Tier
    event_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    ttl: timedelta | None
    confidence: float
    priority: float
    tags: Sequence[str]
    visibility: Visibility
    state: State


def checked_filter(wanted: Mapping[str, Any], kinds: Collection[Kind] = ()) -> Filter:
    """The Filter of `wanted`; `kinds` stand in when it names none.

    Raises:
        BadInput: a field is unknown or cannot be taken.
    """
    _refuse_unknown(wanted, Wanted)
    chosen = wanted.get("kinds") or kinds
    filters: dict[str, Any] = {
        "kinds": tuple(check_choice(kind, KINDS, "a kind") for kind in _several(chosen, "kinds"))
    }
    for name in ("thread", "speaker"):
        if wanted.get(name) is not None:
            filters[name] = wanted[name] if wanted[name] == "" else check_name(wanted[name], name)
    for name in ("since", "until"):
        if wanted.get(name) is not None:
            filters[name] = check_time(wanted[name], name)
    if wanted.get("states"):
        filters["states"] = tuple(
            check_choice(state, STATES, "a state") for state in _several(wanted["states"], "states")
        )
    return Filter(**filters)


def checked_fields(fields: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The item's fields that `update` sets.

    Raises:
        BadInput: a field is unknown or cannot be taken, or there is none.
    """
    _refuse_unknown(fields, ItemFields)
    if not fields:
        raise BadInput(
            f"update was given nothing to change: name one of {', '.join(ItemFields.__annotations__)}"
        )
    checks: dict[str, Any] = {
        "text": lambda value: check_text(value, "text"),
        "kind": lambda value: check_choice(value, KINDS, "kind"),
        "tier": lambda value: check_choice(value, TIERS, "tier"),
        "state": lambda value: check_choice(value, STATES, "state"),
        "visibility": lambda value: check_choice(value, VISIBILITIES, "visibility"),
        "confidence": lambda value: check_share(value, "confidence"),
        "priority": lambda value: check_finite(value, "priority"),
        "tags": check_tags,
        "ttl": lambda value: check_ttl(value, now),
    }
    changes = {
        name: checks[name](value) if name in checks else check_time(value, name)
        for name, value in fields.items()
    }
    if "ttl" in changes:
        changes["expires_at"] = changes.pop("ttl")
    return changes


def _refuse_unknown(given: Mapping[str, Any], known: type) -> None:
    unknown = sorted(set(given) - set(known.__annotations__))
    if unknown:
        raise BadInput(
            f"unknown field {unknown[0]!r}: known are this method's own arguments and "
            f"{', '.join(known.__annotations__)}"
        )


def _several(values: object, what: str) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadInput(f"{what} is {values!r}: hand over a list, as in {what}=[...]")
    return values
