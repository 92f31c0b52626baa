"""The index is fast, never wrong, and worth nothing: any doubt about it ends in a new one from the truth."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memos_engine.errors import Closed, StoreDamaged
from memos_engine.store.chroma import ChromaIndex
from memos_engine.store.resident import SQL_REFS_MAX, VECTORS, Resident
from memos_engine.store.stamp import STAMP, Stamp, read_stamp
from memos_engine.testing.conformance import VectorIndexTests
from tests.store.truth import FINGERPRINT, Truth, assert_same, clustered

ROOT = Path(__file__).parent.parent.parent
DIMENSION = 16
Ints = NDArray[np.int64]


def nothing(_upto: int) -> tuple[Ints, Ints]:
    """Return the refs of a truth without vectors."""
    return np.empty(0, np.int64), np.empty(0, np.int64)


def opened(folder: Path, *, fingerprint: str = FINGERPRINT, held: int = 0) -> ChromaIndex:
    """Open an index whose truth holds ids 1..held, each its own ref."""
    index = ChromaIndex.open(
        folder,
        fingerprint=fingerprint,
        dimension=DIMENSION,
        refs_of=lambda upto: (np.arange(1, min(held, upto) + 1),) * 2,
        sync_threshold=100,
    )
    assert index is not None
    return index


def stamp_of(folder: Path) -> Stamp:
    """Read the stamp that must be there."""
    stamp = read_stamp(folder)
    assert stamp is not None
    return stamp


def filled(folder: Path, count: int = 250) -> ChromaIndex:
    """Open an index and give it rows 1..count, flushed and marked."""
    index = opened(folder)
    assert len(index) == 0
    ids = np.arange(1, count + 1)
    index.add(ids, ids, clustered(count, DIMENSION, seed=1))
    index.mark(count, 0)
    return index


@pytest.fixture
def truth(tmp_path: Path) -> Iterator[Truth]:
    """Return an empty cube."""
    truth = Truth(tmp_path / "cube")
    yield truth
    truth.file.close()


@pytest.fixture
def resident(truth: Truth) -> Iterator[Resident]:
    """Return the vectors of `truth`; nothing is loaded yet."""
    resident = Resident(truth.folder, sync_threshold=500)
    yield resident
    resident.close()


def search(
    truth: Truth, resident: Resident, row: NDArray[np.float32], limit: int = 10
) -> list[tuple[int, float]]:
    """Search in a transaction of its own."""
    with truth.read() as reader:
        return resident.nearest(reader, row, limit)


def assert_whole(truth: Truth, resident: Resident, *, step: int = 1) -> None:
    """Every vector of the truth is found by itself, the index serves, and nothing disagrees."""
    refs, rows = truth.all()
    assert resident.indexed_to > 0
    missed = 0
    for ref, row in list(zip(refs.tolist(), rows, strict=True))[::step]:
        ((found, score),) = search(truth, resident, row, 1)
        missed += found != ref or score < 0.9999
    assert missed <= len(refs) // step // 200, (
        f"{missed} of {len(refs) // step} not found: HNSW may miss very few"
    )
    with truth.read() as reader:
        assert resident.problems(reader) == []


class TestChroma(VectorIndexTests):
    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[ChromaIndex]:
        """Return an empty index that flushes often."""
        index = ChromaIndex.open(
            tmp_path / "v", fingerprint="f", dimension=16, refs_of=nothing, sync_threshold=100
        )
        assert index is not None
        yield index
        index.close()


class TestOpening:
    def test_what_was_marked_is_taken_over(self, tmp_path: Path) -> None:
        """Same generation, same marks, same answers; what the truth no longer knows is not answered."""
        index = filled(tmp_path)
        row = clustered(250, DIMENSION, seed=1)[7]
        index.mark(250, 9)
        index.close()
        index.close()
        stamp = stamp_of(tmp_path)
        assert (stamp.clean, stamp.rows, stamp.applied_v) == (True, 250, 250)
        again = opened(tmp_path, held=250)
        assert (again.generation, again.applied_v, again.applied_gone) == (index.generation, 250, 9)
        assert_same(again.nearest(row, 1), [(8, 1)])
        again.close()
        fewer = opened(tmp_path, held=7)
        assert 8 not in dict(fewer.nearest(row, 5))
        fewer.close()

    @pytest.mark.parametrize("how", ["add", "remove"])
    def test_it_is_unclean_from_a_write_to_the_mark(self, tmp_path: Path, how: str) -> None:
        """What was written and not marked is not trusted: the next opening begins anew."""
        index = filled(tmp_path)
        assert stamp_of(tmp_path).clean
        if how == "add":
            index.add(np.array([251]), np.array([251]), clustered(1, DIMENSION, seed=2))
        else:
            index.remove([3])
        assert not stamp_of(tmp_path).clean
        index.close()
        again = opened(tmp_path, held=251)
        assert (again.generation, again.applied_v, len(again)) == ("g000002", 0, 0)
        again.close()

    def test_searches_and_closing_write_nothing(self, tmp_path: Path) -> None:
        """What `clean` rests on: between its writing calls Chroma changes no file."""
        index = filled(tmp_path, 1_300)

        def files() -> dict[Path, bytes]:
            return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

        before = files()
        for row in clustered(50, DIMENSION, seed=3):
            index.nearest(row, 500)
        assert index.missing(np.arange(1, 1_302)) == [1_301]
        assert files() == before
        index.close()
        assert {**files(), tmp_path / "LOCK": b""} == {**before, tmp_path / "LOCK": b""}

    def test_there_is_one_owner(self, tmp_path: Path) -> None:
        """A second opening finds it taken, in this process too, until it is closed."""
        first = filled(tmp_path)
        assert ChromaIndex.open(tmp_path, fingerprint="f", dimension=16, refs_of=nothing) is None
        first.close()
        opened(tmp_path, held=250).close()

    @pytest.mark.parametrize(
        "field", ["format", "chromadb", "fingerprint", "dimension", "generation", "rows"]
    )
    def test_a_stamp_of_another_kind_begins_anew(self, tmp_path: Path, field: str) -> None:
        """Whatever does not fit what is wanted is left behind, and its files go."""
        first = filled(tmp_path)
        first.close()
        stamp = json.loads((tmp_path / STAMP).read_text())
        stamp[field] = stamp[field] + ("x" if isinstance(stamp[field], str) else 1)
        (tmp_path / STAMP).write_text(json.dumps(stamp))
        index = opened(tmp_path, held=250)
        assert (index.generation, index.applied_v, len(index)) == ("g000002", 0, 0)
        assert not (tmp_path / first.generation).exists()
        assert index.nearest(np.ones(DIMENSION, np.float32), 3) == []
        index.close()

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"format": 1}', "\udcff"])
    def test_a_malformed_stamp_begins_anew(self, tmp_path: Path, text: str | None) -> None:
        """Missing, torn or foreign: no stamp says nothing."""
        filled(tmp_path).close()
        if text is None:
            (tmp_path / STAMP).unlink()
        else:
            (tmp_path / STAMP).write_text(text, errors="surrogateescape")
        assert read_stamp(tmp_path) is None
        index = opened(tmp_path, held=250)
        assert (index.generation, index.applied_v) == ("g000002", 0)
        index.close()

    @pytest.mark.parametrize("how", ["truncate", "delete", "sqlite", "all"])
    def test_a_torn_file_begins_anew(self, tmp_path: Path, how: str) -> None:
        """A generation that is not as it was marked is never answered from."""
        index = filled(tmp_path)
        index.close()
        generation = tmp_path / index.generation
        path = max(generation.rglob("*.bin"), key=lambda path: path.stat().st_size)
        if how == "all":
            shutil.rmtree(generation)
        elif how == "delete":
            path.unlink()
        elif how == "truncate":
            path.write_bytes(path.read_bytes()[:-1000])
        else:
            (generation / "chroma.sqlite3").write_bytes(random.Random(1).randbytes(100_000))
        again = opened(tmp_path, held=250)
        assert (again.applied_v, len(again)) == (0, 0)
        ids = np.arange(1, 101)
        again.add(ids, ids, clustered(100, DIMENSION, seed=1))
        assert_same(again.nearest(clustered(100, DIMENSION, seed=1)[7], 1), [(8, 1)])
        again.close()

    def test_a_closed_index_says_so(self, tmp_path: Path) -> None:
        """No write and no search after `close`."""
        index = filled(tmp_path)
        index.close()
        one = np.array([1])
        for call in (
            lambda: index.add(one, one, np.ones((1, DIMENSION), np.float32)),
            lambda: index.remove([1]),
            lambda: index.mark(1, 1),
            lambda: index.nearest(np.ones(DIMENSION, np.float32), 1),
            index.renew,
        ):
            with pytest.raises(Closed, match="open the MemOS again"):
                call()

    def test_a_failure_names_the_folder(self, tmp_path: Path) -> None:
        """Chroma's error comes as ours, from a search and from a write."""
        index = filled(tmp_path)
        for call in (
            lambda: index.nearest(np.ones(3, np.float32), 1),
            lambda: index.add(np.array([251]), np.array([251]), np.ones((1, 3), np.float32)),
        ):
            with pytest.raises(StoreDamaged, match=r"being rebuilt") as caught:
                call()
            assert str(tmp_path) in str(caught.value)
        index.close()


class TestResident:
    def test_both_ways_agree(self, truth: Truth, resident: Resident) -> None:
        """3,000 items of two vectors each: the index finds what the page finds, with the same scores."""
        truth.add(clustered(6_000, 32, seed=1), per_item=2)
        queries = clustered(100, 32, seed=2)
        exact = [search(truth, resident, row) for row in queries]
        assert_same(exact[0], truth.nearest(queries[0], 10))
        assert resident.catch_up(truth.read) == 6_000
        assert resident.nbytes < 6_000 * 32
        common = 0
        for row, right in zip(queries, exact, strict=True):
            found, scores = search(truth, resident, row), dict(right)
            shared = [(ref, score) for ref, score in found if ref in scores]
            assert_same(shared, [(ref, scores[ref]) for ref, _ in shared])
            common += len(shared)
        assert common >= 950
        assert resident.nbytes < 6_000 * 32, "the page is empty: the index holds all"
        assert resident.indexed_to == 6_000

    def test_writes_are_found_at_once(self, truth: Truth, resident: Resident) -> None:
        """Behind a complete index: new, replaced and forgotten items are right in the very next search."""
        rows = clustered(400, DIMENSION, seed=1)
        refs = truth.add(rows)
        resident.catch_up(truth.read)
        fresh = clustered(3, DIMENSION, seed=9)
        (new,) = truth.add(fresh[:1])
        assert_same(search(truth, resident, fresh[0], 1), [(new, 1)])
        truth.replace(refs[0], fresh[1])
        assert_same(search(truth, resident, fresh[1], 1), [(refs[0], 1)])
        assert dict(search(truth, resident, rows[0], 400))[refs[0]] < 0.99
        truth.erase([refs[1], new])
        gone = dict(search(truth, resident, rows[1], 400))
        assert refs[1] not in gone
        assert new not in gone
        assert len(gone) == 399
        with truth.read() as reader:
            assert resident.lag(reader) == (1, 1)

    def test_a_page_of_another_process_follows_too(self, truth: Truth, resident: Resident) -> None:
        """Without an index: another handle's writes are in the next search; `drop_page` changes no answer."""
        other = Truth(truth.folder)
        rows = clustered(50, DIMENSION, seed=1)
        assert search(truth, resident, rows[0]) == []
        refs = truth.add(rows[:40])
        before = search(truth, resident, rows[45], 50)
        more = other.add(rows[40:])
        other.erase(refs[:5])
        assert_same(search(truth, resident, rows[45], 1), [(more[5], 1)])
        found = search(truth, resident, rows[45], 60)
        assert len(found) == 45
        assert len(before) == 40
        resident.drop_page()
        assert resident.nbytes == 0
        assert_same(search(truth, resident, rows[45], 60), found)
        with truth.read() as reader:
            assert resident.problems(reader) == []
        other.file.close()

    def test_filters(self, truth: Truth, resident: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
        """Few refs, nearly all, and a part that the index's candidates do not meet: each is answered right."""
        rows = clustered(1_200, DIMENSION, seed=1)
        refs = np.array(truth.add(rows))
        resident.catch_up(truth.read)
        assert len(refs) < SQL_REFS_MAX
        for limit_sql in (SQL_REFS_MAX, 10):
            monkeypatch.setattr("memos_engine.store.resident.SQL_REFS_MAX", limit_sql)
            for allowed in (refs[:0], refs[:7], refs[1:], refs[::2], refs[np.argsort(rows @ rows[0])[:40]]):
                wanted = np.sort(allowed)
                with truth.read() as reader:
                    found = resident.nearest(reader, rows[0], 10, wanted)
                right = truth.nearest(rows[0], 10, wanted.tolist())
                assert [score for _, score in found] == pytest.approx([score for _, score in right], abs=1e-5)
                resident.drop_page()

    def test_another_embedder_starts_over(self, truth: Truth, resident: Resident) -> None:
        """After a re-embedding no old vector answers, from the page and from the index."""
        refs = truth.add(clustered(300, DIMENSION, seed=1))
        resident.catch_up(truth.read)
        search(truth, resident, clustered(1, DIMENSION, seed=2)[0])
        rows = clustered(300, 8, seed=3)
        truth.switch("test:2", rows)
        assert_same(search(truth, resident, rows[5], 1), [(refs[5], 1)])
        assert resident.catch_up(truth.read) == 300
        assert_whole(truth, resident)
        stamp = stamp_of(truth.folder / VECTORS)
        assert (stamp.fingerprint, stamp.dimension, stamp.generation) == ("test:2", 8, "g000002")

    def test_what_was_erased_is_in_no_file(self, truth: Truth, resident: Resident) -> None:
        """After the next catch_up, the raw float32 bytes of forgotten vectors are nowhere in the index's folder."""
        rows = clustered(800, DIMENSION, seed=1)
        refs = truth.add(rows)
        resident.catch_up(truth.read)
        folder = truth.folder / VECTORS

        def traces(row: NDArray[np.float32]) -> int:
            return sum(row[:4].tobytes() in path.read_bytes() for path in folder.rglob("*") if path.is_file())

        assert traces(rows[100]) > 0
        assert traces(rows[700]) > 0
        truth.erase([refs[100], refs[700]])
        truth.add(clustered(5, DIMENSION, seed=4))
        with truth.read() as reader:
            assert resident.lag(reader) == (5, 2)
        assert resident.catch_up(truth.read) == 803
        assert traces(rows[100]) == traces(rows[700]) == 0
        assert traces(rows[101]) > 0
        with truth.read() as reader:
            assert resident.lag(reader) == (0, 0)
        assert_whole(truth, resident)

    def test_an_erased_trace_without_a_vector_renews_once(self, truth: Truth, resident: Resident) -> None:
        """An entry for vector 0 stands for whatever an index may still hold of an item's earlier versions."""
        truth.add(clustered(100, DIMENSION, seed=1))
        resident.catch_up(truth.read)
        truth.file.write(
            lambda writer: writer.connection.execute("INSERT INTO gone_vectors (v, erased) VALUES (0, 1)"),
            principal="user:t",
            action="forget",
        )
        assert resident.catch_up(truth.read) == 100
        assert resident.catch_up(truth.read) == 0
        assert stamp_of(truth.folder / VECTORS).generation == "g000002"

    def test_what_was_erased_before_it_was_indexed_costs_no_rebuild(
        self, truth: Truth, resident: Resident
    ) -> None:
        """Only vectors that ever reached Chroma make it begin anew."""
        truth.add(clustered(100, DIMENSION, seed=1))
        resident.catch_up(truth.read)
        more = truth.add(clustered(10, DIMENSION, seed=2))
        truth.erase(more[:3])
        assert resident.catch_up(truth.read) == 7
        assert stamp_of(truth.folder / VECTORS).generation == "g000001"

    def test_replaced_vectors_leave_the_index(self, truth: Truth, resident: Resident) -> None:
        """An update removes the old vector at the next catch_up, without a rebuild."""
        rows = clustered(300, DIMENSION, seed=1)
        refs = truth.add(rows)
        resident.catch_up(truth.read)
        for n in range(20):
            truth.replace(refs[n], -rows[n])
        assert resident.catch_up(truth.read) == 20
        assert_whole(truth, resident)
        assert refs[0] not in dict(search(truth, resident, rows[0], 3))

    def test_searches_are_exact_while_the_index_grows(self, truth: Truth, resident: Resident) -> None:
        """The page serves until the last batch; what comes in between batches is indexed too."""
        rows = clustered(2_500, DIMENSION, seed=1)
        truth.add(rows)
        seen: list[int] = []

        def progress(added: int) -> None:
            seen.append(added)
            assert resident.indexed_to == 0
            assert_same(search(truth, resident, rows[0], 5), truth.nearest(rows[0], 5))
            if added == 1_000:
                truth.add(clustered(100, DIMENSION, seed=5))

        assert resident.catch_up(truth.read, on_progress=progress) == 2_600
        assert seen == [1_000, 2_000, 2_600]
        assert resident.indexed_to == 2_600

    def test_a_lost_lease_stops_it_and_the_next_goes_on(self, truth: Truth, resident: Resident) -> None:
        """What the heartbeat raises comes out; nothing marked is added twice."""
        truth.add(clustered(2_500, DIMENSION, seed=1))
        beats: list[int] = []

        def heartbeat() -> None:
            beats.append(1)
            if len(beats) == 2:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            resident.catch_up(truth.read, heartbeat=heartbeat)
        assert resident.indexed_to == 0
        assert resident.catch_up(truth.read, heartbeat=heartbeat) == 1_500
        assert resident.indexed_to == 2_500

    def test_an_index_that_fails_serves_no_more(self, truth: Truth, resident: Resident) -> None:
        """The search that met the failure is exact already; the next catch_up makes a new index."""
        rows = clustered(300, DIMENSION, seed=1)
        truth.add(rows)
        resident.catch_up(truth.read)
        assert resident._index is not None
        resident._index._client.delete_collection("vectors")
        assert_same(search(truth, resident, rows[3], 5), truth.nearest(rows[3], 5))
        assert resident.needs_rebuild
        assert resident.indexed_to == 0
        assert resident.catch_up(truth.read) == 300
        assert not resident.needs_rebuild
        assert_whole(truth, resident)

    def test_an_index_that_fails_while_it_grows_is_renewed_once(
        self, truth: Truth, resident: Resident
    ) -> None:
        """The work begins anew by itself; if that fails too, the error comes out."""
        truth.add(clustered(300, DIMENSION, seed=1))
        resident.catch_up(truth.read)
        truth.add(clustered(50, DIMENSION, seed=2))
        assert resident._index is not None
        resident._index._client.delete_collection("vectors")
        resident.catch_up(truth.read)
        assert_whole(truth, resident)
        truth.add(clustered(50, DIMENSION, seed=3))

        def breaks() -> None:
            assert resident._index is not None
            if resident.needs_rebuild:
                resident._renew(resident._index)
            resident._index._client.delete_collection("vectors")

        with pytest.raises(StoreDamaged, match="being rebuilt"):
            resident.catch_up(truth.read, heartbeat=breaks)
        assert resident.catch_up(truth.read) == 400

    def test_renew_and_close(self, truth: Truth, resident: Resident) -> None:
        """`renew` makes the next catch_up begin anew if there is an index; after `close` all calls say so."""
        rows = clustered(100, DIMENSION, seed=1)
        truth.add(rows)
        search(truth, resident, rows[0])
        resident.renew()
        assert not resident.needs_rebuild
        resident.catch_up(truth.read)
        resident.renew()
        assert resident.needs_rebuild
        assert resident.indexed_to == 0
        assert resident.catch_up(truth.read) == 100
        resident.close()
        resident.close()
        with pytest.raises(Closed):
            search(truth, resident, rows[0])
        with pytest.raises(Closed):
            resident.catch_up(truth.read)
        again = Resident(truth.folder)
        with truth.read() as reader:
            assert again.lag(reader) == (100, 0), "not opened here: it serves nothing yet"
        assert again.catch_up(truth.read) == 0
        assert again.indexed_to == 100
        again.close()

    def test_searches_run_beside_everything(self, truth: Truth, resident: Resident) -> None:
        """Threads search while vectors come, go, are forgotten and indexed: always found, never after they went."""
        rows = clustered(600, DIMENSION, seed=1)
        refs = truth.add(rows)
        stop = threading.Event()
        wrong: list[object] = []

        def look(n: int) -> None:
            while not stop.is_set():
                found = search(truth, resident, rows[n], 3)
                if found[0][0] != refs[n] or found[0][1] < 0.9999 or refs[599] in dict(found):
                    wrong.append(found)

        truth.erase([refs[599]])
        threads = [threading.Thread(target=look, args=(n,)) for n in (0, 301)]
        for thread in threads:
            thread.start()
        try:
            for n in range(6):
                resident.catch_up(truth.read)
                truth.erase([refs[500 + n]])
                truth.replace(refs[400 + n], rows[n])
                truth.add(-rows[:50])
                if n == 3:
                    resident.drop_page()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert not resident.needs_rebuild


class TestProcesses:
    def child(self, truth: Truth, *more: str) -> subprocess.Popen[str]:
        """Start a process that indexes the cube; it is ready to be killed."""
        command = [sys.executable, "-m", "tests.store.child_index", str(truth.folder), *more]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    def end(self, child: subprocess.Popen[str]) -> str:
        """Let the child end by itself; returns what it still had to say."""
        text, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        return text

    def test_a_second_process_goes_without(self, truth: Truth, resident: Resident) -> None:
        """While another owns the index, catch_up does nothing and searches are exact; then it can be had."""
        rows = clustered(300, DIMENSION, seed=1)
        truth.add(rows)
        child = self.child(truth, "500", "hold")
        assert child.stdout is not None
        assert child.stdout.readline() == "300\n"
        assert child.stdout.readline() == "complete 300\n"
        assert resident.catch_up(truth.read) == 0
        assert resident.indexed_to == 0
        with truth.read() as reader:
            assert resident.lag(reader) == (0, 0), "its owner is up to date: nothing is due here"
        assert len(search(truth, resident, rows[0])) == 10
        self.end(child)
        assert resident.catch_up(truth.read) == 0
        assert resident.indexed_to == 300

    def test_killed_at_rest_it_is_kept(self, truth: Truth, resident: Resident) -> None:
        """A process that dies while it does not write costs nothing: notebooks end this way every day."""
        truth.add(clustered(1_200, DIMENSION, seed=1))
        child = self.child(truth, "250", "hold")
        assert child.stdout is not None
        while child.stdout.readline() != "complete 1200\n":
            pass
        child.kill()
        child.communicate()
        assert resident.catch_up(truth.read) == 0
        assert stamp_of(truth.folder / VECTORS).generation == "g000001"
        assert_whole(truth, resident)

    def test_kills_never_make_it_wrong(self, truth: Truth) -> None:
        """Ten processes are killed while they open, add and flush; what they leave is whole or made anew."""
        timing = random.Random(4)
        truth.add(clustered(2_000, DIMENSION, seed=0))
        folder = truth.folder / VECTORS
        for round_ in range(10):
            refs = truth.add(clustered(2_000, DIMENSION, seed=round_ + 1))
            if round_ == 4:
                truth.erase(refs[:3])
            child = self.child(truth, "250")
            assert child.stdout is not None
            if round_ > 2:
                child.stdout.readline()
            time.sleep(timing.uniform(0, 0.4 if round_ > 2 else 2))
            child.kill()
            child.communicate()
            left = read_stamp(folder)
            if round_ % 2:
                continue  # the next child finds what this one left
            resident = Resident(truth.folder, sync_threshold=250)
            resident.catch_up(truth.read)
            assert_whole(truth, resident, step=40)
            kept = left is not None and left.generation == stamp_of(folder).generation
            assert kept == (left is not None and left.clean and not left_behind(truth, left))
            resident.close()
        resident = Resident(truth.folder, sync_threshold=250)
        resident.catch_up(truth.read)
        assert_whole(truth, resident, step=20)
        resident.close()


def left_behind(truth: Truth, stamp: Stamp) -> bool:
    """Whether a forget since that stamp makes its index begin anew."""
    with truth.read() as reader:
        return reader.erased_vectors(stamp.applied_gone, upto=stamp.applied_v) > 0
