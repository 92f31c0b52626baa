"""Whose memory a component of LlamaIndex serves: one user's for good, told when it is made.

Calls of LlamaIndex name nobody, so nothing but the program that makes a component can say whose it is.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypedDict, Unpack
from uuid import UUID

from pydantic import BeforeValidator

from memos_adapters._identity import Isolation, Memories
from memos_engine import MemCube, MemOS


def _text(value: object) -> object:
    return str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else value


Name: TypeAlias = Annotated[str, BeforeValidator(_text)]
"""A name as a field: ids of databases are often numbers or UUIDs."""


class Names(TypedDict, total=False):
    """Who a component acts for, and which memory of theirs it is."""

    user_id: str | None
    """None: the user's as whom `memos` acts."""
    agent_id: str | None
    session_id: str | None
    cube: str
    """Name of the user's cube; every adapter's is the same unless said otherwise."""
    isolation: Isolation
    """What has a cube of its own: the user, each agent, or each session."""


def bound(memos: MemOS | MemCube, **names: Unpack[Names]) -> Memories:
    """The memories of one user.

    Raises:
        IdentityMissing: neither `memos` nor a name says whose.
        BadInput: `memos` is neither, or names are given beside a cube, which has its own.
    """
    memories = Memories(memos, **names)
    if isinstance(memos, MemOS):
        memories.scope()
    return memories
