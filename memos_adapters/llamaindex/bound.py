"""Whose memory a component of LlamaIndex serves: one user's for good, told when it is made.

Calls of LlamaIndex name nobody, so nothing but the program that makes a component can say whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias, TypedDict, Unpack
from uuid import UUID

from pydantic import BaseModel, BeforeValidator

from memos_adapters._identity import Isolation, Memories
from memos_engine import BadInput, MemCube, MemOS


def as_name(value: object) -> object:
    """An id of a database as a name; what is none is left as it is."""
    return str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else value


Name: TypeAlias = Annotated[str, BeforeValidator(as_name)]
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


class Handle(BaseModel):
    """A component whose copies never act for one user under the name of another."""

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: it is a handle, and what it handles is in the store."""
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another handle. Where `update` can say whose memory it serves, the constructor makes it anew.

        Args:
            update: Fields with other values.
            deep: Tells nothing: what it handles is in the store.

        Raises:
            BadInput: `update` names what is no field, as whose memory it is may be.
            IdentityMissing: as the constructor.
        """
        if not update:
            return super().model_copy()
        fields = type(self).model_fields
        if unknown := sorted(update.keys() - fields.keys()):
            raise BadInput(
                f"a copy of a {type(self).__name__} cannot change {', '.join(unknown)}: make a new one with the "
                "constructor"
            )
        if "memos" not in fields:
            return super().model_copy(update=update)
        return type(self)(**{name: getattr(self, name) for name in fields} | dict(update))

    def copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # type: ignore[override] # -- no field can be left out of a handle
        """As `model_copy`, under its old name."""
        return self.model_copy(update=update, deep=deep)
