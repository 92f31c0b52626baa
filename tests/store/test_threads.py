"""Threads: logs and blobs of one principal, beside a dict model, with a stranger and other processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memos_engine.errors import BadInput, BadLimit, BadName, BadText, Closed, Conflict, NotFound
from memos_engine.items import Json
from memos_engine.store.database import Database
from memos_engine.store.thread_values import ENTRY_BYTES_MAX, NAME_CHARACTERS_MAX, Blob
from memos_engine.store.threads import THREADS_DATABASE, Threads, open_threads
from memos_engine.testing.fakes import FrozenClock

ROOT = Path(__file__).parent.parent.parent
ALICE, EVE = "user:alice", "user:eve"


@pytest.fixture
def clock() -> FrozenClock:
    """Return a clock that the tests move."""
    return FrozenClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Lend a new database of threads."""
    database = open_threads(tmp_path)
    yield database
    database.close()


@pytest.fixture
def threads(database: Database, clock: FrozenClock) -> Threads:
    """Return Alice's threads."""
    return Threads(database, ALICE, clock)


def blob(
    version: str, key: str = "k", space: str = "s", data: bytes = b"\x00data", kind: str = "json"
) -> Blob:
    """Return a blob, by what differs most often first."""
    return Blob(space, key, version, kind, data)


def texts(threads: Threads, thread: str, **options: Any) -> list[object]:
    """Return the texts of a thread's entries."""
    return [entry.value["t"] for entry in threads.list(thread, **options)]


class TestLog:
    def test_entries_come_back_in_order(self, threads: Threads, clock: FrozenClock) -> None:
        """Position, id, value and time are kept; unicode, NUL and nesting too."""
        value: dict[str, Json] = {"é雪\x00": ["\u2028", None, 1.5, -0.0, 2**70, {"deep": [[]]}], "b": True}
        assert threads.append("t", [value, {}], ids=["a", None]) == [1, 2]
        clock.advance(timedelta(seconds=1))
        assert threads.append("t", [{"n": 3}]) == [3]
        first, second, third = threads.list("t")
        assert (first.position, first.id, first.value) == (1, "a", value)
        assert (second.position, second.id, second.value) == (2, None, {})
        assert third.at - first.at == timedelta(seconds=1)
        assert threads.list("other") == []

    def test_an_id_is_appended_once(self, threads: Threads) -> None:
        """A retry gives the positions that are there; equal means equal JSON, whatever the order of keys."""
        assert threads.append("t", [{"a": 1, "b": 2}, {"c": 3}], ids=["x", "y"]) == [1, 2]
        assert threads.append("t", [{"new": 1}, {"b": 2, "a": 1}, {"new": 1}], ids=["z", "x", "z"]) == [
            3,
            1,
            3,
        ]
        assert threads.append("u", [{"other": "thread"}], ids=["x"]) == [1]
        assert [entry.id for entry in threads.list("t")] == ["x", "y", "z"]

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.0}, {"a": True}, {}, {"a": 1, "b": None}])
    def test_an_id_with_other_content_is_a_conflict(self, threads: Threads, other: dict[str, Json]) -> None:
        """Nothing of the call is stored, not even what came before it."""
        threads.append("t", [{"a": 1}], ids=["x"])
        with pytest.raises(Conflict, match="'x'"):
            threads.append("t", [{"new": 1}, other], ids=["new", "x"])
        assert [entry.id for entry in threads.list("t")] == ["x"]
        assert threads.append("t", [{}]) == [2]

    def test_blobs_come_and_go_with_entries(self, threads: Threads) -> None:
        """Appended and removed in one commit: where an entry is refused no blob is left, and none is replaced."""
        first, other = blob("1"), blob("1", data=b"other")
        threads.append("t", [{"a": 1}], ids=["x"], blobs=[first])
        threads.append("t", [{"a": 1}, {"b": 2}], ids=["x", "y"], blobs=[other, blob("2")])
        assert threads.blobs("t") == [first, blob("2")]
        with pytest.raises(Conflict):
            threads.append("t", [{"c": 3}, {"a": 2}], ids=["z", "x"], blobs=[blob("3")])
        with pytest.raises(BadInput):
            threads.append("u", [{"a": 1}], blobs=[Blob("s", "k", "", "json", b"")])
        assert threads.remove("t", [1, 9], blobs=[("s", "k", "1"), ("s", "k", "9")]) == 1
        assert threads.blobs("t") == [blob("2")]
        assert [info.name for info in threads.threads()] == ["t"]

    def test_entries_take_the_place_of_others_in_one_commit(
        self, threads: Threads, database: Database, clock: FrozenClock
    ) -> None:
        """What is removed frees its ids and names of blobs; where the new is refused, the old stays whole."""
        old, new = blob("1"), blob("1", data=b"new")
        threads.append("t", [{"t": "a"}, {"t": "b"}, {"t": "c"}], ids=["a", "b", "c"], blobs=[old])
        before = threads.list("t")
        with pytest.raises(Conflict):
            threads.append(
                "t", [{"t": 1}], ids=["a"], blobs=[new], removing=[2, 3], removing_blobs=[("s", "k", "1")]
            )
        with pytest.raises(BadLimit):
            threads.append("t", [{"t": 1}], removing=[-1])
        assert (threads.list("t"), threads.blobs("t")) == (before, [old])
        clock.advance(timedelta(minutes=1))
        assert threads.append(
            "t",
            [{"t": "B"}, {"t": "a"}],
            ids=["b", "a"],
            blobs=[new],
            removing=[2, 3, 9],
            removing_blobs=[("s", "k", "1")],
        ) == [4, 1]
        assert [(entry.position, entry.id, entry.value["t"]) for entry in threads.list("t")] == [
            (1, "a", "a"),
            (4, "b", "B"),
        ]
        assert threads.blobs("t") == [new]
        assert threads.threads()[0].updated_at == clock()
        assert Threads(database, EVE, clock).append("t", [{"t": "hers"}], removing=[1, 4]) == [1]
        assert texts(threads, "t") == ["a", "B"], "a stranger removes nothing of it"
        assert threads.append("t", [], removing=[1, 4], removing_blobs=[("s", "k", "1")]) == []
        assert (threads.list("t"), threads.blobs("t")) == ([], [])
        assert threads.append("nowhere", [], removing=[1]) == []
        assert [info.name for info in threads.threads()] == ["t"]

    def test_positions_are_not_reused(self, threads: Threads) -> None:
        """What is removed leaves a gap, at the end too, in a copy too."""
        threads.append("t", [{"t": n} for n in range(4)])
        assert threads.remove("t", [2, 4, 9]) == 2
        assert threads.remove("t", []) == 0
        assert threads.remove("nowhere", [1]) == 0
        threads.copy("t", "u")
        for name in ("t", "u"):
            assert threads.append(name, [{"t": 4}]) == [5]
            assert [entry.position for entry in threads.list(name)] == [1, 3, 5]

    def test_a_page_of_the_log(self, threads: Threads) -> None:
        """Bounds are exclusive; the newest first with `newest`; a limit of 0 is nothing."""
        threads.append("t", [{"t": n} for n in range(1, 7)])
        assert texts(threads, "t", after=4) == [5, 6]
        assert texts(threads, "t", after=1, before=4) == [2, 3]
        assert texts(threads, "t", limit=2) == [1, 2]
        assert texts(threads, "t", limit=2, newest=True) == [6, 5]
        assert texts(threads, "t", limit=2, before=5, newest=True) == [4, 3]
        assert texts(threads, "t", limit=0) == []
        assert texts(threads, "t", after=6) == []

    def test_replace_keeps_id_and_place(self, threads: Threads) -> None:
        """Only the value changes; where there is no entry, the error says so."""
        threads.append("t", [{"a": 1}, {"b": 1}], ids=["x", "y"])
        threads.replace("t", 1, {"a": 2})
        assert [(entry.id, entry.value) for entry in threads.list("t")] == [("x", {"a": 2}), ("y", {"b": 1})]
        assert threads.append("t", [{"a": 2}], ids=["x"]) == [1]
        for thread, position in (("t", 3), ("t", 0), ("nowhere", 1)):
            with pytest.raises(NotFound, match=str(position)):
                threads.replace(thread, position, {})


class TestBlobs:
    def test_blobs_come_back_by_version(self, threads: Threads) -> None:
        """In order of version, then space and key; the other way round, cut, and before a version."""
        blobs = [blob("2", "b"), blob("1", "b"), blob("2", "a"), blob("3", "", "r"), blob("10", "é雪")]
        assert threads.put_blobs("t", blobs) == 5
        ordered = [blobs[1], blobs[4], blobs[2], blobs[0], blobs[3]]
        assert threads.blobs("t") == ordered
        assert threads.blobs("t", newest=True) == ordered[::-1]
        assert threads.blobs("t", newest=True, limit=1) == ordered[-1:]
        assert threads.blobs("t", before="2") == ordered[:2]
        assert threads.blobs("t", before="2", newest=True, limit=1) == [blobs[4]]
        assert threads.blobs("t", limit=0) == []
        assert threads.blobs("nowhere") == []

    def test_blobs_are_chosen(self, threads: Threads) -> None:
        """By space, keys, versions, pairs and prefix, and by all of them at once."""
        threads.put_blobs("t", [blob(v, k, s) for s in "rs" for k in ("", "a", "ab", "b") for v in "12"])

        def names(**how: Any) -> list[str]:
            return [one.space + one.key + one.version for one in threads.blobs("t", **how)]

        assert names(space="r", keys=["a"]) == ["ra1", "ra2"]
        assert names(keys=["", "b"], versions=["2"]) == ["r2", "rb2", "s2", "sb2"]
        assert names(space="s", exactly=[("a", "1"), ("b", "2"), ("b", "3")]) == ["sa1", "sb2"]
        assert names(space="s", prefix="a", versions=["1"]) == ["sa1", "sab1"]
        assert names(space="s", prefix="a", keys=["ab", "b"], before="2") == ["sab1"]
        assert names(space="s", prefix="", versions=["1"]) == ["s1", "sa1", "sab1", "sb1"]
        assert names(keys=[]) == names(versions=[]) == names(exactly=[]) == []

    def test_one_blob_per_space_key_and_version(self, threads: Threads) -> None:
        """A later one replaces, unless it comes only if absent; one call may do both."""
        assert threads.put_blobs("t", [blob("1", data=b"old"), blob("1", data=b"new", kind="raw")]) == 2
        assert threads.blobs("t") == [blob("1", data=b"new", kind="raw")]
        absent = [blob("1", data=b"late"), blob("2", data=b"first"), blob("2", data=b"second")]
        assert threads.put_blobs("t", [blob("3")], if_absent=absent) == 2
        assert [found.data for found in threads.blobs("t")] == [b"new", b"first", b"\x00data"]
        assert threads.put_blobs("t", if_absent=absent) == 0

    def test_a_batch_of_blobs_is_atomic(self, threads: Threads) -> None:
        """One that cannot be taken keeps all out, and the thread is not made."""
        with pytest.raises(BadName):
            threads.put_blobs("t", [blob("1"), blob("")])
        with pytest.raises(BadInput):
            threads.put_blobs("t", [blob("1"), blob("2", data=cast("Any", "text"))])
        assert threads.threads() == []
        assert threads.put_blobs("t") == 0
        assert threads.threads() == []

    def test_blobs_are_removed_as_they_are_chosen(self, threads: Threads) -> None:
        """Same conditions, and no other blob is touched."""
        threads.put_blobs("t", [blob(v, k) for k in ("a", "b") for v in "123"])
        threads.put_blobs("u", [blob("1", "a")])
        assert threads.remove_blobs("t", "s", keys=["a"], before="3") == 2
        assert threads.remove_blobs("t", "other") == 0
        assert [b.key + b.version for b in threads.blobs("t")] == ["b1", "b2", "a3", "b3"]
        assert threads.remove_blobs("t") == 4
        assert threads.remove_blobs("nowhere") == 0
        assert len(threads.blobs("u")) == 1


class TestWholeThreads:
    def test_threads_are_listed_by_name(self, threads: Threads, clock: FrozenClock) -> None:
        """With counts and times; by prefix, exactly as spelled, and page by page."""
        threads.append("b_1", [{}, {}])
        made = clock()
        clock.advance(timedelta(seconds=1))
        threads.put_blobs("b_1", [blob("1")])
        for name in ("a", "bx1", "B_1", "b_10", "b_é"):
            threads.append(name, [{}])
        (info, *_) = threads.threads(prefix="b_1")
        assert (info.entries, info.blobs, info.created_at, info.updated_at) == (2, 1, made, clock())
        names = [info.name for info in threads.threads()]
        assert names == ["B_1", "a", "b_1", "b_10", "b_é", "bx1"]
        assert [info.name for info in threads.threads(prefix="b_")] == ["b_1", "b_10", "b_é"]
        assert [info.name for info in threads.threads(prefix="b_", limit=1, offset=1)] == ["b_10"]
        assert [info.name for info in threads.threads(offset=5)] == ["bx1"]
        assert threads.threads(limit=0) == []

    def test_only_a_change_is_an_update(self, threads: Threads, clock: FrozenClock) -> None:
        """A retry and a removal of nothing leave the time as it was."""
        threads.append("t", [{}], ids=["x"])
        threads.put_blobs("t", [blob("1")])
        before = threads.threads()
        clock.advance(timedelta(seconds=1))
        threads.append("t", [{}], ids=["x"])
        threads.put_blobs("t", if_absent=[blob("1", data=b"late")])
        threads.remove("t", [9])
        threads.remove_blobs("t", "other")
        assert threads.threads() == before
        threads.put_blobs("t", [blob("2")], if_absent=[blob("1")])
        assert threads.threads()[0].updated_at == clock()

    def test_a_copy_stands_alone(self, threads: Threads) -> None:
        """Everything is there, and a change of one is no change of the other."""
        threads.append("t", [{"t": 1}, {"t": 2}], ids=["x", "y"])
        threads.put_blobs("t", [blob("1"), blob("2")])
        threads.copy("t", "u")
        assert (threads.list("u"), threads.blobs("u")) == (threads.list("t"), threads.blobs("t"))
        threads.delete("t")
        assert texts(threads, "u") == [1, 2]
        assert len(threads.blobs("u")) == 2
        threads.copy("u", "t")
        assert texts(threads, "t") == [1, 2]

    def test_a_copy_overwrites_nothing(self, threads: Threads) -> None:
        """A target that holds something, the source itself, and a source that is not there are refused."""
        threads.append("t", [{"t": 1}])
        threads.put_blobs("u", [blob("1")])
        for target in ("t", "u"):
            with pytest.raises(Conflict, match="holds something"):
                threads.copy("t", target)
        with pytest.raises(NotFound, match="nowhere"):
            threads.copy("nowhere", "v")
        assert [info.name for info in threads.threads()] == ["t", "u"]
        threads.remove_blobs("u")
        threads.copy("t", "u")
        assert texts(threads, "u") == [1]

    def test_what_is_deleted_leaves_the_disk(self, threads: Threads, database: Database) -> None:
        """Neither the file nor its log holds a byte of it, and other threads are whole."""
        secret = "the key is under the mat"
        threads.append("t", [{"t": secret}])
        threads.put_blobs("t", [blob("1", data=secret.encode() * 999)])
        threads.append("u", [{"t": "stays"}])
        assert threads.delete("t")
        assert not threads.delete("t")
        for path in database.path.parent.glob(f"{THREADS_DATABASE}*"):
            assert secret.encode() not in path.read_bytes(), path.name
        assert texts(threads, "u") == ["stays"]
        assert threads.append("t", [{"t": "new"}]) == [1]

    def test_a_stranger_sees_and_changes_nothing(self, database: Database, clock: FrozenClock) -> None:
        """Every call under the same thread name works on the caller's own thread alone."""
        hers, his = Threads(database, ALICE, clock), Threads(database, EVE, clock)
        hers.append("t", [{"t": "hers"}], ids=["x"])
        hers.put_blobs("t", [blob("1")])
        before = hers.threads(), hers.list("t"), hers.blobs("t")
        assert (his.threads(), his.list("t"), his.blobs("t")) == ([], [], [])
        assert not his.delete("t")
        assert (his.remove("t", [1]), his.remove_blobs("t")) == (0, 0)
        with pytest.raises(NotFound):
            his.replace("t", 1, {})
        with pytest.raises(NotFound):
            his.copy("t", "u")
        assert his.append("t", [{"t": "his"}], ids=["x"]) == [1]
        his.put_blobs("t", [blob("1", data=b"his")], if_absent=[blob("2")])
        his.delete("t")
        assert (hers.threads(), hers.list("t"), hers.blobs("t")) == before


class TestBadInput:
    @pytest.mark.parametrize("name", ["", "a\x00b", "\ud800", "x" * (NAME_CHARACTERS_MAX + 1), None, 7, b"t"])
    def test_names_that_cannot_be_names(self, threads: Threads, name: Any) -> None:
        """Every method refuses them before anything is written."""
        calls: list[Callable[[], object]] = [
            lambda: threads.append(name, [{}]),
            lambda: threads.append("t", [{}], ids=[name if name is not None else ""]),
            lambda: threads.list(name),
            lambda: threads.replace(name, 1, {}),
            lambda: threads.remove(name, [1]),
            lambda: threads.put_blobs(name, [blob("1")]),
            lambda: threads.put_blobs("t", [blob(name)]),
            lambda: threads.put_blobs("t", if_absent=[blob("1", space=name)]),
            lambda: threads.blobs(name),
            lambda: threads.blobs("t", versions=[name]),
            lambda: threads.blobs("t", exactly=[("k", name)]),
            lambda: threads.remove_blobs(name),
            lambda: threads.copy(name, "u"),
            lambda: threads.copy("t", name),
            lambda: threads.delete(name),
        ]
        if name:  # an empty key, kind or prefix is one
            calls += [
                lambda: threads.put_blobs("t", [blob("1", key=name)]),
                lambda: threads.put_blobs("t", [blob("1", kind=name)]),
                lambda: threads.blobs("t", keys=[name]),
                lambda: threads.blobs("t", prefix=name),
                lambda: threads.blobs("t", name),
                lambda: threads.blobs("t", before=name),
                lambda: threads.threads(prefix=name),
            ]
        for call in calls:
            with pytest.raises(BadName):
                call()
        assert threads.threads() == []

    def test_one_name_is_no_list(self, threads: Threads) -> None:
        """A str in the place of a list of them is a slip, not its letters."""
        with pytest.raises(BadName, match="list"):
            threads.blobs("t", keys="key")
        with pytest.raises(BadName, match="pair"):
            threads.blobs("t", exactly=cast("Any", ["kv"]))

    @pytest.mark.parametrize(
        "value",
        [
            [],
            "text",
            None,
            {1: "int key"},
            {"t": (1, 2)},
            {"f": float("nan")},
            {"s": {1}},
            {"b": b""},
            {"o": object()},
        ],
    )
    def test_what_is_no_json_object(self, threads: Threads, value: Any) -> None:
        """Nor what would come back changed."""
        with pytest.raises(BadInput, match=r"entries\[1\]"):
            threads.append("t", [{}, value])
        with pytest.raises(BadInput, match="value"):
            threads.replace("t", 1, value)
        assert threads.threads() == []

    def test_texts_that_cannot_be_stored(self, threads: Threads) -> None:
        """Lone surrogates, an endless text, and a bottomless object."""
        for text in ("\ud800", "é" * (ENTRY_BYTES_MAX // 2)):
            with pytest.raises(BadText):
                threads.append("t", [{"t": text}])
        bottomless: dict[str, Any] = {}
        bottomless["self"] = bottomless
        with pytest.raises(BadInput):
            threads.append("t", [bottomless])
        assert threads.threads() == []

    @pytest.mark.parametrize("number", [-1, 1.5, "1", True, 2**63])
    def test_numbers_that_are_no_count(self, threads: Threads, number: Any) -> None:
        """Negative, fractional, spelled out and absurd."""
        for call in (
            lambda: threads.list("t", limit=number),
            lambda: threads.list("t", after=number),
            lambda: threads.list("t", before=number),
            lambda: threads.blobs("t", limit=number),
            lambda: threads.threads(limit=number),
            lambda: threads.threads(offset=number),
            lambda: threads.remove("t", [number]),
            lambda: threads.replace("t", number, {}),
        ):
            with pytest.raises(BadLimit):
                call()

    def test_ids_must_match_the_entries(self, threads: Threads) -> None:
        """One for each, None for an entry without."""
        with pytest.raises(BadInput, match="2 entries came with 1 ids"):
            threads.append("t", [{}, {}], ids=["x"])
        assert threads.append("t", []) == []

    def test_a_closed_database_says_so(self, threads: Threads, database: Database) -> None:
        """Every call after `close` names the cure."""
        database.close()
        with pytest.raises(Closed, match="open"):
            threads.list("t")
        with pytest.raises(Closed, match="open"):
            threads.append("t", [{}])


CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from memos_engine.store.threads import Threads, open_threads
from memos_engine.testing.fakes import FrozenClock

database = open_threads(Path(sys.argv[1]))
threads = Threads(database, "user:alice", FrozenClock())
print("ready", flush=True)
sys.stdin.readline()

def work(n):
    who = f"{sys.argv[2]}-{n}"
    for turn in range(10):
        threads.append("t", [{"who": who, "turn": turn, "part": part} for part in range(3)])
        threads.append("t", [{"shared": turn}], ids=[f"shared-{turn}"])

with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(4)))
database.close()
"""


def test_two_processes_append_to_one_thread(threads: Threads, tmp_path: Path) -> None:
    """Nothing is lost or doubled, a batch stays together, and what all share is there once."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(n)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0, 0]
    entries = threads.list("t")
    assert [entry.position for entry in entries] == list(range(1, 8 * 30 + 10 + 1))
    assert sorted(str(entry.id) for entry in entries if entry.id) == [f"shared-{turn}" for turn in range(10)]
    told: dict[object, list[Any]] = defaultdict(list)
    starts = [entry for entry in entries if entry.value.get("part") == 0]
    for start in starts:
        together = entries[start.position - 1 : start.position + 2]
        assert [entry.value for entry in together] == [{**start.value, "part": part} for part in range(3)]
    for entry in entries:
        told[entry.value.get("who")].append((entry.value.get("turn"), entry.value.get("part")))
    assert len(told) == 8 + 1
    assert all(parts == sorted(parts) for who, parts in told.items() if who)


def test_threads_of_one_process_share_a_log(threads: Threads) -> None:
    """Each of 64 appends from 8 threads gets a position of its own."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: threads.append("t", [{"n": n}, {"n": n}]), range(64)))
    assert sorted(position for pair in found for position in pair) == list(range(1, 129))
    assert all(pair[1] == pair[0] + 1 for pair in found)


NAMES = st.sampled_from(["t", "u", "é雪"])
WHO = st.sampled_from([ALICE, EVE])
VALUES = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2) | st.text(max_size=3), max_size=2)
IDS = st.none() | st.sampled_from(["x", "y", "z"])
BLOBS = st.builds(
    Blob,
    st.sampled_from(["r", "s"]),
    st.sampled_from(["", "k", "kk"]),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["", "json"]),
    st.binary(max_size=3),
)
Log = dict[int, tuple[str | None, Mapping[str, Json]]]
Where = tuple[str, str]


class ThreadsMachine(RuleBasedStateMachine):
    """Drives two principals' threads beside dicts, with reopening in between."""

    @initialize()
    def begin(self) -> None:
        """Open a new root."""
        self.folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.logs: dict[Where, Log] = {}
        self.last: dict[Where, int] = {}
        self.stored: dict[Where, dict[tuple[str, str, str], Blob]] = {}
        self.open()

    def open(self) -> None:
        """Open the root's threads."""
        self.database = open_threads(Path(self.folder.name))
        self.by_who = {who: Threads(self.database, who, FrozenClock()) for who in (ALICE, EVE)}

    def made(self, where: Where) -> None:
        """Let the model know a thread."""
        self.logs.setdefault(where, {})
        self.last.setdefault(where, 0)
        self.stored.setdefault(where, {})

    @rule()
    def reopen(self) -> None:
        """Close and open again."""
        self.database.close()
        self.open()

    @rule(who=WHO, name=NAMES, entries=st.lists(st.tuples(IDS, VALUES), max_size=3))
    def append(self, who: str, name: str, entries: list[tuple[str | None, dict[str, Json]]]) -> None:
        """Append: known ids are passed over, a conflict keeps everything out."""
        log, last = dict(self.logs.get((who, name), {})), self.last.get((who, name), 0)
        wanted: list[int] | None = []
        for id_, value in entries:
            there = [at for at, (known, _) in log.items() if id_ is not None and known == id_]
            if there and json.dumps(log[there[0]][1], sort_keys=True) != json.dumps(value, sort_keys=True):
                wanted = None
                break
            if not there:
                last += 1
                log[last] = (id_, value)
            assert wanted is not None
            wanted.append(there[0] if there else last)
        values, ids = [value for _, value in entries], [id_ for id_, _ in entries]
        if wanted is None:
            with pytest.raises(Conflict):
                self.by_who[who].append(name, values, ids=ids)
            return
        assert self.by_who[who].append(name, values, ids=ids) == wanted
        if entries:
            self.made((who, name))
            self.logs[who, name], self.last[who, name] = log, last

    @rule(who=WHO, name=NAMES, position=st.integers(0, 9), value=VALUES)
    def replace(self, who: str, name: str, position: int, value: dict[str, Json]) -> None:
        """Replace an entry, or learn that there is none."""
        log = self.logs.get((who, name), {})
        if position not in log:
            with pytest.raises(NotFound):
                self.by_who[who].replace(name, position, value)
            return
        self.by_who[who].replace(name, position, value)
        log[position] = (log[position][0], value)

    @rule(who=WHO, name=NAMES, positions=st.sets(st.integers(0, 9), max_size=3))
    def remove(self, who: str, name: str, positions: set[int]) -> None:
        """Remove entries."""
        log = self.logs.get((who, name), {})
        assert self.by_who[who].remove(name, positions) == len(positions & log.keys())
        for position in positions & log.keys():
            del log[position]

    @rule(who=WHO, name=NAMES, blobs=st.lists(BLOBS, max_size=3), if_absent=st.lists(BLOBS, max_size=3))
    def put_blobs(self, who: str, name: str, blobs: list[Blob], if_absent: list[Blob]) -> None:
        """Write blobs."""
        if blobs or if_absent:
            self.made((who, name))
        stored = self.stored.get((who, name), {})
        written = 0
        for new, keep in [*((one, False) for one in blobs), *((one, True) for one in if_absent)]:
            key = (new.version, new.space, new.key)
            if not (keep and key in stored):
                stored[key] = new
                written += 1
        assert self.by_who[who].put_blobs(name, blobs, if_absent=if_absent) == written

    @rule(who=WHO, name=NAMES, space=st.none() | st.just("s"), keys=st.none() | st.just(["", "k"]))
    def remove_blobs(self, who: str, name: str, space: str | None, keys: list[str] | None) -> None:
        """Remove some blobs."""
        stored = self.stored.get((who, name), {})
        chosen = [
            key
            for key, one in stored.items()
            if one.space == (space or one.space) and one.key in (keys or [one.key])
        ]
        assert self.by_who[who].remove_blobs(name, space, keys=keys) == len(chosen)
        for key in chosen:
            del stored[key]

    @rule(who=WHO, source=NAMES, into=NAMES)
    def copy(self, who: str, source: str, into: str) -> None:
        """Copy a thread, or learn why not."""
        old, new = (who, source), (who, into)
        if old not in self.logs:
            with pytest.raises(NotFound):
                self.by_who[who].copy(source, into)
        elif self.logs.get(new) or self.stored.get(new):
            with pytest.raises(Conflict):
                self.by_who[who].copy(source, into)
        else:
            self.by_who[who].copy(source, into)
            self.logs[new], self.stored[new] = dict(self.logs[old]), dict(self.stored[old])
            self.last[new] = self.last[old]

    @rule(who=WHO, name=NAMES)
    def delete(self, who: str, name: str) -> None:
        """Erase a thread."""
        assert self.by_who[who].delete(name) == ((who, name) in self.logs)
        for part in (self.logs, self.last, self.stored):
            cast("dict[Where, object]", part).pop((who, name), None)

    @invariant()
    def agrees(self) -> None:
        """Everything that can be seen is as in the model."""
        for who, threads in self.by_who.items():
            names = sorted(name for owner, name in self.logs if owner == who)
            infos = threads.threads()
            assert [info.name for info in infos] == names
            for info in infos:
                where = (who, info.name)
                log = {entry.position: (entry.id, entry.value) for entry in threads.list(info.name)}
                assert log == self.logs[where]
                assert list(log) == sorted(log)
                assert threads.blobs(info.name) == [blob for _, blob in sorted(self.stored[where].items())]
                assert (info.entries, info.blobs) == (len(log), len(self.stored[where]))

    def teardown(self) -> None:
        """Close and clean up."""
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()


TestThreadsMachine = ThreadsMachine.TestCase
TestThreadsMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
