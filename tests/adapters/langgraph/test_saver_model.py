"""Whatever is done in whatever order, the saver answers as LangGraph's own saver in memory does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, _DeltaSnapshot

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import MemOS, Scope
from tests.adapters.langgraph.saver_cases import checkpoint, config, plain

THREADS, SPACES, CHANNELS = ("t", "u"), ("", "sub|1:x"), ("a", "b", "é\n")
IDS = tuple("0123")

threads, spaces, channels = map(st.sampled_from, (THREADS, SPACES, CHANNELS))
values = st.one_of(
    st.none(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=2), st.binary(max_size=2),
    st.builds(_DeltaSnapshot, st.lists(st.integers(0, 3), max_size=2)), st.just("long " * 100),
)  # fmt: skip
versions = st.dictionaries(channels, st.sampled_from(["1", "2", "01", 1, 2]), max_size=3)
metadata = st.fixed_dictionaries(
    {"step": st.integers(0, 2)}, optional={"source": st.sampled_from(["loop", "input"]), "note": st.none()}
)


class Put(NamedTuple):
    """A checkpoint is stored; its parent's id sorts before its own, or it has none."""

    thread: str
    ns: str
    id: int
    parent: int | None
    values: dict[str, Any]
    versions: dict[str, Any]
    new: frozenset[str]
    metadata: dict[str, Any]

    def run(self, saver: BaseCheckpointSaver[Any]) -> Any:
        """Do it, and return what it returns."""
        parent = IDS[self.parent] if self.parent is not None and self.parent < self.id else None
        made = checkpoint(self.values, self.versions, id=IDS[self.id])
        new = {channel: version for channel, version in self.versions.items() if channel in self.new}
        return saver.put(config(self.thread, self.ns, parent), made, cast("Any", self.metadata), new)


class Write(NamedTuple):
    """A task writes beside a checkpoint, which may not be there."""

    thread: str
    ns: str
    id: int
    task: str
    path: str
    writes: list[tuple[str, Any]]

    def run(self, saver: BaseCheckpointSaver[Any]) -> Any:
        """Do it."""
        where = config(self.thread, self.ns, IDS[self.id])
        return saver.put_writes(where, self.writes, self.task, self.path)


class Delete(NamedTuple):
    """A thread is erased."""

    thread: str

    def run(self, saver: BaseCheckpointSaver[Any]) -> Any:
        """Do it."""
        return saver.delete_thread(self.thread)


numbers = st.integers(0, len(IDS) - 1)
written = st.tuples(st.sampled_from([*CHANNELS, ERROR, INTERRUPT]), values)
puts = st.builds(
    Put, threads, spaces, numbers, st.none() | numbers, st.dictionaries(channels, values, max_size=3), versions,
    st.frozensets(channels), metadata,
)  # fmt: skip
writes = st.builds(
    Write, threads, spaces, numbers, st.sampled_from(["x", "y:1"]), st.sampled_from(["", "~1", "~2"]),
    st.lists(written, max_size=3),
)  # fmt: skip
scripts = st.lists(puts | puts | writes | writes | st.builds(Delete, threads), max_size=14)


@pytest.fixture(scope="module")
def memos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemOS]:
    """Lend one folder to every example: each acts under a user of its own."""
    folder: Path = tmp_path_factory.mktemp("model")
    with MemOS.open(folder, background=False) as memos:
        yield memos


USERS = count()


def answers(saver: BaseCheckpointSaver[Any]) -> Iterator[Any]:
    """Everything that can be asked."""
    for thread in THREADS:
        for ns in SPACES:
            for id_ in (None, *IDS):
                where = config(thread, ns, id_)
                yield "tuple", thread, ns, id_, plain(saver.get_tuple(where))
                history = saver.get_delta_channel_history(config=where, channels=CHANNELS)
                yield "history", thread, ns, id_, history
            for options in (
                {}, {"limit": 2}, {"limit": 0}, {"before": config(id="2")}, {"filter": {"step": 1}},
                {"filter": {"source": "loop", "step": 0}, "limit": 1}, {"filter": {"note": None}},
            ):  # fmt: skip
                found = saver.list(config(thread, ns), **cast("Any", options))
                yield "list", thread, ns, str(options), [plain(each) for each in found]
        yield "all", thread, sorted(repr(plain(each)) for each in saver.list(config(thread, None)))
    yield "everything", sorted(repr(plain(each)) for each in saver.list(None))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=scripts)
def test_it_answers_as_memory_does(memos: MemOS, script: list[Put | Write | Delete]) -> None:
    """Tuples, histories of delta channels and listings are equal after any script."""
    mine, theirs = MemosSaver(memos.acting_as(Scope(user=str(next(USERS))))), InMemorySaver()
    for step in script:
        assert step.run(mine) == step.run(theirs)
    for my_answer, their_answer in zip(answers(mine), answers(theirs), strict=True):
        assert my_answer == their_answer
