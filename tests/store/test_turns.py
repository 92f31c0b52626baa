"""The turns in RAM say of every turn what the truth's rows say: its neighbours and who spoke, whoever wrote."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memos_engine import MemCube, MemOS, Message
from memos_engine.items import SESSION_GAP, Filter
from memos_engine.store.reading import CubeReader, Seen
from memos_engine.store.rows import View
from memos_engine.store.turns import Turns, TurnsFollower
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

START = datetime(2025, 6, 1, 12, tzinfo=UTC)
GAP = int(SESSION_GAP.total_seconds() * 1_000_000)
REACHES = (0, 1, 2, 4)
ROOT = View(None, None, 0)


def neighbours(reader: CubeReader, reach: int) -> dict[int, list[int]]:
    """The turns around each item, by brute force: the same thread, in order, up to a silence of an hour."""
    rows = reader.rows(
        "SELECT n, thread, event_at FROM items WHERE kind = 'episode' AND indexed = 1 ORDER BY n"
    )
    sessions: list[list[int]] = []
    for thread in sorted({thread for _, thread, _ in rows}):
        before: int | None = None
        sessions.append([])
        for n, _, at in [row for row in rows if row[1] == thread]:
            if before is not None and at is not None and abs(at - before) > GAP:
                sessions.append([])
            sessions[-1].append(n)
            before = at
    found: dict[int, list[int]] = {n: [n] for (n,) in reader.rows("SELECT n FROM items")}
    for session in sessions:
        padded = [-1] * reach + session + [-1] * reach
        for place, n in enumerate(session):
            found[n] = padded[place : place + 2 * reach + 1]
    return {n: near if len(near) > 1 else [-1] * reach + near + [-1] * reach for n, near in found.items()}


def assert_right(reader: CubeReader, turns: Turns) -> None:
    """Neighbours, speakers and roles are the rows'; names are of those who said something."""
    refs = np.array([n for (n,) in reader.rows("SELECT n FROM items ORDER BY n DESC")], np.int64)
    for reach in REACHES:
        right = neighbours(reader, reach)
        assert turns.around(refs, reach).tolist() == [right[n] for n in refs.tolist()]
    said = reader.rows("SELECT n, speaker, role FROM items WHERE kind = 'episode' AND indexed = 1")
    speakers = {speaker for _, speaker, _ in said if speaker is not None}
    assert set(turns.names_among(reader.seen(Filter(), ROOT))) == speakers
    for name in {*speakers, "Nobody"}:
        right_refs = {n for n, speaker, _ in said if speaker == name}
        assert set(refs[turns.said_by(refs, name)].tolist()) == right_refs
    assert set(refs[turns.said_by(refs, None)].tolist()) == {n for n, _, role in said if role == "user"}


class TurnsMachine(RuleBasedStateMachine):
    """Two handles of one root and two of another process's kind write in turn; one follower follows."""

    @initialize()
    def open_it(self) -> None:
        """Two MemOS on one root."""
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FrozenClock(START)
        self.opened = [
            MemOS.open(
                Path(self.folder.name) / "r", embedder=HashEmbedder(8), clock=self.clock, background=False
            )
            for _ in range(2)
        ]
        self.cubes = [memos.cube("c") for memos in self.opened]
        self.follower = TurnsFollower()

    @rule(
        by=st.integers(0, 1),
        thread=st.sampled_from(["", "a", "b"]),
        said=st.lists(
            st.tuples(
                st.sampled_from(["Ann", "Bob", None]),
                st.sampled_from(["user", "assistant"]),
                st.sampled_from([None, 0, 59, 60, 61, 130, -90]),
            ),
            min_size=1,
            max_size=4,
        ),
    )
    def capture(self, by: int, thread: str, said: list[tuple[str | None, str, int | None]]) -> None:
        """Capture turns at any times, an hour apart to the minute among them."""
        self.cubes[by].capture(
            [
                Message(
                    role,
                    "Remember that I like tea.",
                    name=name,
                    at=None if minutes is None else START + timedelta(minutes=minutes),
                )
                for name, role, minutes in said
            ],
            thread=thread,
        )

    @rule(by=st.integers(0, 1))
    def add(self, by: int) -> None:
        """Add a note, and an episode of no thread."""
        self.cubes[by].add("a note")
        self.cubes[by].add("an episode by hand", kind="episode")

    @rule(by=st.integers(0, 1), which=st.integers(0, 50), minutes=st.sampled_from([None, 0, 30, 200]))
    def move(self, by: int, which: int, minutes: int | None) -> None:
        """Correct the time of an item."""
        at = None if minutes is None else START + timedelta(minutes=minutes)
        if item := self.one(by, which):
            self.cubes[by].update(item, event_at=at)

    @rule(
        by=st.integers(0, 1),
        which=st.integers(0, 50),
        state=st.sampled_from(["archived", "activated", "expired"]),
    )
    def rest(self, by: int, which: int, state: str) -> None:
        """Take an item out of search, or back."""
        if item := self.one(by, which):
            self.cubes[by].update(item, state=state)  # type: ignore[arg-type]  # -- drawn from a list

    @rule(by=st.integers(0, 1), which=st.integers(0, 50), kind=st.sampled_from(["episode", "note"]))
    def recast(self, by: int, which: int, kind: str) -> None:
        """Make an item a turn, or a turn something else."""
        if item := self.one(by, which):
            self.cubes[by].update(item, kind=kind)  # type: ignore[arg-type]  # -- drawn from a list

    @rule(by=st.integers(0, 1), which=st.integers(0, 50))
    def forget(self, by: int, which: int) -> None:
        """Erase an item and what was derived from it."""
        if item := self.one(by, which):
            self.cubes[by].forget(item)

    @rule()
    def drop(self) -> None:
        """Give the memory back."""
        self.follower.drop()

    def one(self, by: int, which: int) -> str | None:
        """Id of an item in any state."""
        items = self.cubes[by].list(states=["activated", "archived", "expired"], limit=1000)
        return items[which % len(items)].id if items else None

    @invariant()
    def agrees(self) -> None:
        """What was followed, and what is read anew, are the truth's."""
        with self.cubes[0]._shelf.file.read() as reader:
            assert_right(reader, self.follower.follow(reader))
            assert_right(reader, TurnsFollower().follow(reader))

    def teardown(self) -> None:
        """Close both."""
        for memos in getattr(self, "opened", []):
            memos.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("more", [0, 1_500])
def test_following_is_reading(cube: MemCube, more: int) -> None:
    """A few changes or thousands: followed and read anew are equal, array by array."""
    cube.capture([Message("user", f"turn {n}", name=f"n{n % 3}") for n in range(20)], thread="a")
    follower = TurnsFollower()
    with cube._shelf.file.read() as reader:
        follower.follow(reader)
    for start in range(0, more, 500):
        cube.capture([Message("user", f"more {n}", name="n1") for n in range(start, start + 500)], thread="b")
    cube.capture([Message("assistant", "last")], thread="a")
    with cube._shelf.file.read() as reader:
        followed, reread = follower.follow(reader), TurnsFollower().follow(reader)
        assert follower.follow(reader) is followed, "nothing changed"
        follower.drop()
        dropped = follower.follow(reader)
    for turns in (reread, dropped):
        for name in ("refs", "sessions", "asks", "order"):
            np.testing.assert_array_equal(getattr(followed, name), getattr(turns, name))
        spoken = [[each.names[place] for place in each.speakers.tolist()] for each in (followed, turns)]
        assert spoken[0] == spoken[1]


def test_an_empty_cube_has_no_turns(cube: MemCube) -> None:
    """What is no turn stands alone, and nobody said it."""
    with cube._shelf.file.read() as reader:
        turns = TurnsFollower().follow(reader)
    refs = np.array([3, 1], np.int64)
    assert turns.around(refs, 1).tolist() == [[-1, 3, -1], [-1, 1, -1]]
    assert turns.around(refs[:0], 2).shape == (0, 5)
    assert not turns.said_by(refs, None).any()
    assert turns.names_among(Seen(None, frozenset({7}))) == []
    assert turns.names_among(Seen(refs[:0], frozenset())) == []


def test_names_are_those_of_turns_that_may_be_seen(cube: MemCube) -> None:
    """Whether few are denied or few allowed, a name whose every turn is hidden is not there."""
    cube.capture([Message("user", f"turn {n}", name=name) for n, name in enumerate(["Ann", "Bob", "Ann"])])
    with cube._shelf.file.read() as reader:
        turns = TurnsFollower().follow(reader)
    ann, bob, again = sorted(turns.refs.tolist())
    assert turns.names_among(Seen(None, frozenset())) == ["Ann", "Bob"]
    assert turns.names_among(Seen(None, frozenset({bob, 10**6}))) == ["Ann"]
    assert turns.names_among(Seen(None, frozenset({ann}))) == ["Ann", "Bob"]
    assert turns.names_among(Seen(None, frozenset({ann, again}))) == ["Bob"]
    assert turns.names_among(Seen(np.array([bob, 10**6]), frozenset())) == ["Bob"]


def test_eight_follow_while_one_captures(cube: MemCube) -> None:
    """Every thread sees at least what its own transaction holds, and never half a change."""
    follower, faults, done = TurnsFollower(), [], threading.Event()

    def follow() -> None:
        while not done.is_set():
            with cube._shelf.file.read() as reader:
                turns = follower.follow(reader)
                rows = reader.rows("SELECT n FROM items WHERE kind = 'episode' ORDER BY n")
            refs = np.array([n for (n,) in rows], np.int64)
            around = turns.around(refs, 1)
            if not np.isin(refs, turns.refs).all() or len(np.unique(turns.refs)) != len(turns.refs):
                faults.append("a turn is missing or there twice")
            if (around[1:, 0] != refs[:-1]).any():
                faults.append("a neighbour is missing")

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for n in range(40):
        cube.capture([Message("user", f"turn {n}, part {part}") for part in range(3)], thread="t")
    done.set()
    for thread in threads:
        thread.join(60)
    assert faults == []
    with cube._shelf.file.read() as reader:
        assert_right(reader, follower.follow(reader))
