"""Which checkpoint a LangGraph config means. Knows configs; no storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from memos_engine import BadInput, BadName

THREAD_PREFIX = "langgraph:"
"""What the engine's threads of checkpoints begin with: chat logs of the same id are other threads."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where checkpoints stand: one, or the latest of a namespace, or all of a thread."""

    thread_id: str
    ns: str | None
    """None: the config names no namespace."""
    checkpoint_id: str | None
    """None: the config names no checkpoint."""

    @property
    def thread(self) -> str:
        """Name of the engine's thread."""
        return THREAD_PREFIX + self.thread_id


def address_of(config: RunnableConfig, *, needs_checkpoint: bool = False) -> Address:
    """Return what `config["configurable"]` means.

    Raises:
        BadInput: it names no thread, or no checkpoint where one is needed.
        BadName: a name is no text.
    """
    configurable = config.get("configurable") if isinstance(config, Mapping) else None
    configurable = configurable or {}
    if configurable.get("thread_id") in (None, ""):
        raise BadInput(
            f"the config names no thread, only {sorted(map(str, configurable))!r:.100}: pass "
            "{'configurable': {'thread_id': '...'}}"
        )
    checkpoint_id = configurable.get("checkpoint_id") or None
    if needs_checkpoint and checkpoint_id is None:
        raise BadInput(
            f"config {config!r:.200} names no checkpoint: pass what `put` returned, which has a checkpoint_id"
        )
    ns = configurable.get("checkpoint_ns")
    return Address(
        _text(configurable["thread_id"], "thread_id"),
        None if ns is None else _text(ns, "checkpoint_ns"),
        None if checkpoint_id is None else _text(checkpoint_id, "checkpoint_id"),
    )


def config_of(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    """Return the config that means one checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def thread_address(thread_id: Any) -> Address:
    """Return where all checkpoints of a thread stand.

    Raises:
        BadName: its id is no text.
    """
    return Address(_text(thread_id, "thread_id"), None, None)


def before_of(config: RunnableConfig | None) -> str | None:
    """Return the checkpoint before which others are wanted. None: any.

    Raises:
        BadName: it is no text.
    """
    named = ((config or {}).get("configurable") or {}).get("checkpoint_id")
    return _text(named, "checkpoint_id") if named else None


def _text(value: Any, what: str) -> str:
    """Return an id as text: those of databases are often numbers or UUIDs.

    Raises:
        BadName: it is something else.
    """
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadName(f"{what} is {value!r:.80}: hand over a str")
    return value
