"""Which cubes a store's namespaces live in: one for all, or one for each that a function names.

It knows no operation of LangGraph. Reading makes no cube of a namespace: one that is not there holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from memos_engine import BadInput, CubeNotFound, KeyValues, MemCube, MemOS

CubeOf: TypeAlias = Callable[[tuple[str, ...]], str | None]
"""A namespace, or the beginning of one, to the name of its cube; None where that cannot be told from it."""


class Cubes:
    """The cubes of a store."""

    def __init__(self, memos: MemOS | MemCube, name: str, cube_of: CubeOf | None) -> None:
        """Keep namespaces in the cube `name`, or in cubes `name/...` by `cube_of`.

        Raises:
            BadInput: `memos` is neither, or is one cube that shall be several.
        """
        if not isinstance(memos, (MemOS, MemCube)):
            raise BadInput(
                f"memos is a {type(memos).__name__}: hand over what MemOS.open(path) returns, or a cube of it"
            )
        if isinstance(memos, MemCube) and cube_of is not None:
            raise BadInput(
                "a MemCube is one cube: hand over the MemOS for cube_of=, which chooses among several"
            )
        self._memos = memos
        self._name = name
        self._cube_of = cube_of

    def make(self) -> None:
        """Make the cube of what belongs to no other, if it is not there."""
        if isinstance(self._memos, MemOS):
            self._memos.cube(self._name)

    def name_of(self, namespace: tuple[str, ...]) -> str:
        """The name of the cube that entries of a namespace live in.

        Raises:
            BadInput: `cube_of` names another cube for the beginning of the namespace: a search below that
                would look there, and not find them.
        """
        chosen = self._told(namespace)
        for end in range(1, len(namespace)):
            other = self._told(namespace[:end])
            if other not in (None, chosen):
                raise BadInput(
                    f"cube_of names {chosen!r} for {namespace!r:.80} and {other!r} for {namespace[:end]!r:.80}: "
                    "return None for a beginning that does not decide"
                )
        return self._name if chosen is None else f"{self._name}/{chosen}"

    def to_write(self, name: str) -> KeyValues:
        """The entries of a cube, made if it is not there."""
        return (self._memos if isinstance(self._memos, MemCube) else self._memos.cube(name)).kv

    def to_read(self, name: str) -> KeyValues | None:
        """The entries of a cube; None while a namespace's own is not there."""
        if isinstance(self._memos, MemCube) or name == self._name:
            return self.to_write(name)
        try:
            return self._memos.cube(name, create=False).kv
        except CubeNotFound:
            return None

    def below(self, prefix: tuple[str, ...]) -> list[KeyValues]:
        """The entries of every cube that may hold a namespace with this beginning."""
        chosen = self._told(prefix)
        if chosen is not None:
            names = {f"{self._name}/{chosen}"}
        elif self._cube_of is None or isinstance(self._memos, MemCube):
            names = {self._name}
        else:
            others = (row.name for row in self._memos.cubes())
            names = {self._name, *(name for name in others if name.startswith(f"{self._name}/"))}
        found = [kv for kv in map(self.to_read, sorted(names)) if kv is not None]
        return found or [self.to_write(self._name)]  # it holds none of these, and refuses what any would

    def _told(self, namespace: tuple[str, ...]) -> str | None:
        """What `cube_of` says; a beginning that is too short for it tells nothing."""
        if self._cube_of is None or not namespace:
            return None
        try:
            return self._cube_of(namespace)
        except IndexError:
            return None
