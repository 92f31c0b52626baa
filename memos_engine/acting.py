"""One cube under one scope: whose it is, who is asking, and what they may.

`ScopedCube._actor` is the only place that decides a right; every public method of a cube begins with it.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

from memos_engine.capture.validate import check_choice, check_scope
from memos_engine.errors import AccessDenied, BadInput
from memos_engine.govern.access import ROOT, permits, principal_of
from memos_engine.items import CubeRow, Right, Scope
from memos_engine.ports import Clock
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.rows import View, to_micros


class CubeHost(Protocol):
    """What a cube's handle needs of the engine that opened it."""

    @property
    def clock(self) -> Clock:
        """The current moment."""
        ...

    def shelf(self, cube: str) -> TextShelf:
        """The open shelf of a cube."""
        ...

    def right(self, cube: str, principal: str) -> Right | None:
        """What the catalog says now."""
        ...

    def share(self, cube: str, principal: str, right: Right | None) -> None:
        """Grant a right, or take it back (None)."""
        ...

    def grants(self, cube: str) -> dict[str, Right]:
        """What was granted, by principal."""
        ...


class ScopedCube:
    """A cube's identity, its grants, and the check of rights."""

    def __init__(self, host: CubeHost, info: CubeRow, scope: Scope | None) -> None:
        """`scope` None is the root's handle, which may do everything."""
        self.info = info
        self._host = host
        self._scope = scope
        self._principal = principal_of(scope)

    def __repr__(self) -> str:
        return f"MemCube({self.info.name!r}, owner={self.info.owner!r}, acting_as={self._principal!r})"

    def __copy__(self) -> Self:
        """Itself, as by `copy.deepcopy`: a handle is shared, like a connection."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise BadInput(
            f"{self!r} is a handle on open files and cannot be pickled: open the folder in the other process with "
            f"MemOS.open(path), and get the cube there with memos.cube({self.info.name!r})"
        )

    @property
    def id(self) -> str:
        """The cube's id, unique over all roots."""
        return self.info.id

    @property
    def name(self) -> str:
        """The cube's name, unique per owner."""
        return self.info.name

    @property
    def scope(self) -> Scope | None:
        """Under whose identity this handle acts. None: the root's, who opened the folder."""
        return self._scope

    def grant(self, scope: Scope, right: Right) -> None:
        """Let another principal read, or read and write, this cube.

        Raises:
            AccessDenied: only the owner may.
            BadInput: the right is neither `read` nor `write`.
        """
        self._actor("owner")
        self._host.share(
            self.id, principal_of(check_scope(scope)), check_choice(right, ("read", "write"), "right")
        )

    def revoke(self, scope: Scope) -> None:
        """Take back what `grant` gave; in effect at the next call, in every process.

        Raises:
            AccessDenied: only the owner may.
        """
        self._actor("owner")
        self._host.share(self.id, principal_of(check_scope(scope)), None)

    def grants(self) -> dict[str, Right]:
        """What was granted, by principal; the owner is not in it.

        Raises:
            AccessDenied: only the owner may.
        """
        self._actor("owner")
        return self._host.grants(self.id)

    @property
    def _shelf(self) -> TextShelf:
        return self._host.shelf(self.id)

    def _actor(self, needed: Right) -> Actor:
        """Who acts, once the right is there: the only place that decides it.

        Raises:
            AccessDenied: the principal's right on this cube does not include `needed`.
        """
        session = self._scope.session if self._scope else None
        held = self._host.right(self.id, self._principal)
        if not permits(held, needed):
            if needed == "owner":
                raise AccessDenied(f"{self._principal!r} does not own this cube: only its owner may do this")
            raise AccessDenied(
                f"{self._principal!r} may not {needed} this cube: its owner can allow it with cube.grant(scope, right)"
            )
        now = to_micros(self._host.clock())
        assert now is not None, "a clock returns aware times"
        sees_all = self._principal == ROOT
        return Actor(
            self._principal, self._scope or Scope(), View(None if sees_all else self._principal, session, now)
        )
