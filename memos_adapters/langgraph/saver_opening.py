"""A saver for the length of a `with` or `async with` block: opens the folder, and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Generic, TypeVar

from memos_engine import BadRoot, MemOS, Scope

S = TypeVar("S")

IN_MEMORY = ":memory:"
"""Stands for a folder of its own, which is removed at the end."""


def folder_of(conn_string: str | Path) -> Path:
    """The folder that a connection string names.

    Raises:
        BadRoot: it is a URL; it may hold a password, so it is not shown.
    """
    if isinstance(conn_string, str) and "://" in conn_string:
        scheme = conn_string.partition("://")[0]
        raise BadRoot(f"a {scheme!r:.20} URL is no folder: name a folder of this machine, or ':memory:'")
    return Path(conn_string)


class Opening(AbstractContextManager[S], AbstractAsyncContextManager[S], Generic[S]):
    """What `from_conn_string` returns: enter it with `with` or `async with`, one block at a time."""

    def __init__(self, path: str | Path, scope: Scope | None, make: Callable[[MemOS], S]) -> None:
        """`make` builds the saver over the open folder."""
        self._path = path
        self._scope = scope
        self._make = make
        self._held: list[ExitStack] = []

    def __enter__(self) -> S:
        with ExitStack() as stack:
            path = self._path
            if path == IN_MEMORY:
                path = stack.enter_context(TemporaryDirectory(prefix="memos-"))
            memos = stack.enter_context(MemOS.open(folder_of(path), background=False))
            saver = self._make(memos if self._scope is None else memos.acting_as(self._scope))
            self._held.append(stack.pop_all())
        return saver

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.pop().close()

    async def __aenter__(self) -> S:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)
