"""A real second process with a MemOS of its own on the same root, driven call by call over a pipe."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from memos_engine import MemCube, MemOS
from memos_engine.testing.fakes import FrozenClock, HashEmbedder


@dataclass(frozen=True, slots=True)
class Place:
    """What a MemOS of the state machine is opened with."""

    root: Path
    dim: int
    """Of the embedder."""
    index_above: int
    cube: str = "c"

    def open(self, clock: FrozenClock) -> MemOS:
        """Open it; jobs run in `drain` only."""
        return MemOS.open(
            self.root,
            embedder=HashEmbedder(self.dim),
            clock=clock,
            background=False,
            index_above=self.index_above,
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call to a cube, its `kv` (as `kv.put`) or its MemOS (as `memos.drain`)."""

    verb: str
    args: Sequence[Any] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, memos: MemOS, cube: MemCube) -> Any:
        """Make it."""
        owner, _, verb = self.verb.rpartition(".")
        target: Any = memos if owner == "memos" else cube
        return getattr(target.kv if owner == "kv" else target, verb)(*self.args, **self.options)


class SecondProcess:
    """The handle of the other process; it is started at the first call, and again after `kill`."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._child: tuple[multiprocessing.process.BaseProcess, Connection] | None = None

    def call(self, place: Place, now: datetime, call: Call) -> Any:
        """Return what the call returns there, or raise what it raises."""
        connection = self._connected()
        connection.send((place, now, call))
        assert connection.poll(60), f"no answer to {call.verb} in 60 s"
        error, result = connection.recv()
        if error is not None:
            raise error
        return result

    def rest(self) -> None:
        """Let it close its MemOS, if it runs."""
        if self._child is not None:
            connection = self._connected()
            connection.send(None)
            assert connection.poll(60), "not closed in 60 s"
            connection.recv()

    def kill(self) -> None:
        """End it as a power cut would: with SIGKILL, nothing closed."""
        if self._child is not None:
            process, connection = self._child
            process.kill()
            process.join()
            process.close()
            connection.close()
            self._child = None

    def _connected(self) -> Connection:
        if self._child is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._child = process, ours
        return self._child[1]


def _serve(connection: Connection) -> None:
    """Answer calls until the pipe closes; the MemOS stays open between calls to one place."""
    memos: MemOS | None = None
    cube: MemCube | None = None  # one handle for as long as possible: it must notice what others do
    opened: Place | None = None
    clock = FrozenClock()
    while True:
        try:
            asked = connection.recv()
        except EOFError:
            return
        place, now, call = asked or (None, clock(), Call(""))
        clock.advance(now - clock())
        if memos is not None and place != opened:
            memos.close()
            memos = cube = opened = None
        if place is None:
            connection.send((None, None))
            continue
        try:
            if memos is None:
                memos, opened = place.open(clock), place
            cube = cube or memos.cube(place.cube)
            connection.send((None, call.on(memos, cube)))
        except Exception as exc:  # noqa: BLE001 -- it is raised in the process that called
            connection.send((exc, None))
