"""Full disks, damaged files, foreign roots and wrong embedders: a typed error with the cure, nothing lost beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from memos_engine import (
    BadRoot,
    BadVector,
    Closed,
    EmbedderMismatch,
    EmbedderUnavailable,
    FunctionEmbedder,
    MemCube,
    MemOS,
    MemosError,
    Message,
    SchemaTooNew,
    Scope,
    SentenceEmbedder,
    StoreDamaged,
    StoreError,
    StoreFull,
)
from memos_engine.ports import Embedder, Vectors
from memos_engine.testing.fakes import HashEmbedder
from memos_engine.times.wording import spoken

TURNS = [Message("user", f"turn {n} speaks of topic{n} in Lisbon", id=f"m{n}") for n in range(300)]


def opened(root: Path, embedder: Embedder | None = None, **options: Any) -> MemOS:
    """A root without background work."""
    return MemOS.open(root, embedder=embedder or HashEmbedder(), background=False, **options)


def state(cube: MemCube) -> tuple[object, ...]:
    """What must be equal when nothing was written."""
    stats = cube.stats()
    return stats.revision, stats.items, stats.edges, stats.versions, stats.vectors, cube.list(limit=1000)


@contextmanager
def refused(cube: MemCube, error: type[MemosError], cure: str) -> Iterator[None]:
    """The block is refused with this error and this cure, and the cube is as it was, and whole."""
    before = state(cube)
    with pytest.raises(error, match=cure):
        yield
    assert state(cube) == before
    assert cube.check().ok


def database(memos: MemOS, name: str) -> Path:
    """The file that holds a cube's truth."""
    return memos._host.root / "cubes" / memos.cube(name).id / "memory.db"


def two_cubes(root: Path) -> Path:
    """A root with two cubes, closed; returns the database of the first."""
    with opened(root) as memos:
        for name in ("alice", "bob"):
            memos.cube(name).capture(TURNS, thread="t")
        return database(memos, "alice")


def by_hand(path: Path, sql: str) -> None:
    """Change a database behind the engine's back."""
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)  # FTS5's own tables may be written too
    connection.execute(sql)
    connection.close()


def overwrite(path: Path, start: int, size: int) -> None:
    """Put bytes that mean nothing into a file."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)


# Full


def test_a_full_disk(cube: MemCube) -> None:
    """When no page can be added the call fails as a whole, and goes through once there is space."""
    cube.capture(TURNS[:20], thread="t")
    writer = cube._shelf.file._database._writer
    assert writer is not None
    pages = writer.pragma("page_count")
    writer.pragma("max_page_count", pages + 2)
    for call in (
        lambda: cube.capture(TURNS, thread="t"),
        lambda: cube.add("long " * 20_000),
        lambda: cube.kv.put(("n",), "k", {"text": "long " * 20_000}),
    ):
        with refused(cube, StoreFull, "free some space"):
            call()
    writer.pragma("max_page_count", 2**30)
    assert cube.capture(TURNS, thread="t").new == 280
    assert cube.check().ok


def test_a_file_that_may_not_grow(cube: MemCube) -> None:
    """A write that the system refuses in the middle of a file leaves nothing of the call behind."""
    resource = pytest.importorskip("resource")
    cube.capture(TURNS[:20], thread="t")
    before = state(cube)
    largest = max(path.stat().st_size for path in cube._shelf.file.folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50_000, hard))
    try:
        with pytest.raises(StoreError, match=r"free some space|then repeat"):
            cube.capture([Message("user", "long " * 100_000, id="big"), *TURNS], thread="t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert state(cube) == before
    assert cube.check().ok
    assert cube.capture(TURNS, thread="t").new == 280


# Damaged


@pytest.mark.parametrize("where", ["header", "middle", "cut"])
def test_a_damaged_database(tmp_path: Path, where: str) -> None:
    """A damaged cube is told by every way to it; other cubes, and jobs, go on."""
    path = two_cubes(tmp_path / "root")
    size = path.stat().st_size
    if where == "cut":
        os.truncate(path, size // 2)
    else:
        overwrite(path, 0 if where == "header" else size // 3, 100 if where == "header" else size // 3)
    with opened(tmp_path / "root") as memos:
        with pytest.raises(StoreDamaged, match=r"dump.*other cubes are not touched"):
            memos.cube("alice").list(limit=1000)
        report = memos.check()
        assert not report.ok
        assert all(problem.startswith("alice: ") for problem in report.problems)
        assert not memos.check("alice").ok
        bob = memos.cube("bob")
        assert bob.search("topic7")[0].item.text == TURNS[7].text
        assert bob.capture([Message("user", "more")], thread="t").new == 1
        assert bob.check().ok
        memos.delete("alice")
        assert memos.check().ok


def test_check_tells_the_cubes_of_all_owners_apart(memos: MemOS) -> None:
    """The root's check looks into every cube, those of one name under two owners included."""
    for user in ("alice", "bob"):
        cube = memos.acting_as(Scope(user=user)).cube("diary")
        cube.add("a secret")
        if user == "alice":
            by_hand(cube._shelf.file.folder / "memory.db", "DELETE FROM words_docsize")
    problems = memos.check().problems
    assert problems
    assert all(problem.startswith("user:alice/diary: ") for problem in problems)
    assert memos.acting_as(Scope(user="bob")).check().ok
    assert [line.split(":")[0] for line in memos.acting_as(Scope(user="alice")).check().problems] == ["diary"]


WORDS: dict[str, str] = {
    "blocks": "UPDATE words_data SET block = randomblob(length(block)) WHERE id > 10",
    "all blocks": "UPDATE words_data SET block = randomblob(length(block))",
    "no structure": "DELETE FROM words_data WHERE id = 10",
    "no blocks": "DELETE FROM words_data",
    "no sizes": "DELETE FROM words_docsize WHERE id % 2 = 0",
    "a stranger's words": "INSERT INTO words (rowid, body) VALUES (99999, 'stranger')",
}


@pytest.mark.parametrize("damage", WORDS)
def test_damaged_words(memos: MemOS, cube: MemCube, damage: str) -> None:
    """Damaged words are reported by check, and made anew from the items by rebuild."""
    cube.capture(TURNS[:50], thread="t")
    assert cube.search("topic7")
    by_hand(database(memos, "alice"), WORDS[damage])
    assert not cube.check().ok
    assert not memos.check().ok
    assert memos.rebuild("alice").ok
    assert memos.check().ok
    hit = cube.search("topic7")[0]
    assert hit.item.text == TURNS[7].text
    assert {reason.retriever for reason in hit.why} >= {"dense", "keyword"}


@pytest.mark.parametrize("damage", ["a row", "an id"])
def test_a_damaged_page(cube: MemCube, damage: str) -> None:
    """A page that differs from the truth is reported by check, and read anew by rebuild."""
    cube.capture(TURNS[:50], thread="t")
    right = [hit.item.id for hit in cube.search("topic7")]
    followed = cube._shelf.resident._followed
    assert followed is not None
    if damage == "a row":
        followed.page._rows[7] = followed.page._rows[8]
    else:
        followed.page._ids[49] += 1
    assert any("page" in problem for problem in cube.check().problems)
    assert cube.rebuild().ok
    assert [hit.item.id for hit in cube.search("topic7")] == right


def indexed(root: Path) -> tuple[Path, list[str]]:
    """A root whose cube has an index, closed: the index's folder, and what a search finds."""
    with opened(root, index_above=10) as memos:
        cube = memos.cube("alice")
        cube.capture([Message("user", f"turn {n} speaks of topic{n}") for n in range(1100)])
        memos.drain()
        assert cube.stats().indexed_to == 1100
        return cube._shelf.file.folder / "vectors", found(cube)


def found(cube: MemCube) -> list[str]:
    """What a search finds, best first."""
    return [hit.item.text for hit in cube.search("topic77", limit=3)]


def lose(folder: Path) -> None:
    """Delete the index's files."""
    for path in folder.glob("g*"):
        shutil.rmtree(path)


def spoil(folder: Path) -> None:
    """Overwrite every file of the index."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size and path.name != "LOCK":
            overwrite(path, 0, path.stat().st_size)


def spoil_graph(folder: Path) -> None:
    """Cut the files of the index's graph."""
    for path in folder.rglob("*.bin"):
        os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage", [lose, spoil, spoil_graph, shutil.rmtree], ids=lambda damage: damage.__name__
)
def test_a_damaged_index(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Searches are right without the index, and drain makes it anew."""
    folder, right = indexed(tmp_path / "root")
    damage(folder)
    with opened(tmp_path / "root", index_above=10) as memos:
        cube = memos.cube("alice")
        assert found(cube) == right
        memos.drain()
        assert found(cube) == right
        assert cube.stats().indexed_to == 1100
        assert memos.check().ok


def test_an_index_that_goes_while_it_serves(tmp_path: Path) -> None:
    """A rebuild replaces an index whose rows are gone, and searches stay right."""
    with opened(tmp_path / "root", index_above=10) as memos:
        cube = memos.cube("alice")
        cube.capture([Message("user", f"turn {n} speaks of topic{n}") for n in range(1100)])
        right = found(cube)
        memos.drain()
        index = cube._shelf.resident._index
        assert index is not None
        index._collection.delete(ids=[str(n) for n in range(70, 90)])
        assert any("index lacks 20" in problem for problem in cube.check().problems)
        assert memos.rebuild("alice").ok
        assert found(cube) == right


def test_an_index_forgets(tmp_path: Path) -> None:
    """What the index held of a forgotten item is gone from its files after the job, and `purged` says when."""
    with opened(tmp_path / "root", index_above=10) as memos:
        cube = memos.cube("alice")
        cube.capture([Message("user", f"turn {n} speaks of topic{n}", id=f"m{n}") for n in range(1100)])
        memos.drain()
        item = cube.search("topic77")[0].item
        vector = HashEmbedder().embed([spoken(item.text, item.speaker, item.event_at)])[0].tobytes()
        assert not cube.forget(item.id).purged, "the index's files hold the vector"
        assert item.id not in {hit.item.id for hit in cube.search("topic77", limit=100)}
        memos.drain()
        held = [
            path
            for path in cube._shelf.file.folder.rglob("*")
            if path.is_file() and vector in path.read_bytes()
        ]
        assert held == []
        assert cube.check().ok


# Foreign


@pytest.mark.parametrize("file", ["catalog.db", "threads.db"])
@pytest.mark.parametrize(
    ("sql", "error", "cure"),
    [
        ("PRAGMA application_id = 12345", BadRoot, "use another folder"),
        ("PRAGMA user_version = 999", SchemaTooNew, "pip install -U"),
    ],
)
def test_a_root_of_others(tmp_path: Path, file: str, sql: str, error: type[MemosError], cure: str) -> None:
    """Files of another program, or of a newer version, are refused and left as they are."""
    two_cubes(tmp_path / "root")
    by_hand(tmp_path / "root" / file, sql)
    before = (tmp_path / "root" / file).read_bytes()
    with pytest.raises(error, match=cure):
        opened(tmp_path / "root")
    assert (tmp_path / "root" / file).read_bytes() == before


def test_another_programs_catalog(tmp_path: Path) -> None:
    """A database of tables of its own is no catalog."""
    (tmp_path / "root").mkdir()
    by_hand(tmp_path / "root" / "catalog.db", "CREATE TABLE t (a); PRAGMA user_version = 3")
    with pytest.raises(BadRoot, match="use another folder"):
        opened(tmp_path / "root")


def test_a_damaged_catalog(tmp_path: Path) -> None:
    """A catalog that is no database is told."""
    two_cubes(tmp_path / "root")
    overwrite(tmp_path / "root" / "catalog.db", 0, 100)
    with pytest.raises(StoreDamaged, match="restore it"):
        opened(tmp_path / "root")


def test_a_cube_of_a_newer_version(tmp_path: Path) -> None:
    """A cube of a newer schema is refused, told by check, and left as it is; others go on."""
    path = two_cubes(tmp_path / "root")
    by_hand(path, "PRAGMA user_version = 999")
    with opened(tmp_path / "root") as memos:
        with pytest.raises(SchemaTooNew, match="pip install -U"):
            memos.cube("alice")
        assert "999" in str(memos.check().problems)
        memos.drain()
        assert memos.cube("bob").check().ok


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_root(tmp_path: Path) -> None:
    """A folder that may not be written is told."""
    (tmp_path / "root").mkdir(mode=0o500)
    with pytest.raises(BadRoot, match="may write"):
        opened(tmp_path / "root")


# Embedders


class Failing(HashEmbedder):
    """An embedder whose machine goes down after so many texts."""

    def __init__(self, dim: int, texts_left: int) -> None:
        super().__init__(dim)
        self.texts_left = texts_left

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return rows until the texts are used up."""
        self.texts_left -= len(texts)
        if self.texts_left < 0:
            raise ConnectionError("the embedder's machine is down")
        return super().embed(texts)


def test_another_embedder(tmp_path: Path) -> None:
    """A cube keeps to its embedder; re-embedding, even interrupted in the middle, moves it to another."""
    with opened(tmp_path / "root") as memos:
        cube = memos.cube("alice")
        cube.capture([Message("user", f"turn {n} speaks of topic{n}") for n in range(600)])
        cube.kv.put(("n",), "whole", {"topic": "quokka", "n": 1})
        cube.kv.put(("n",), "fields", {"a": "narwhal", "b": ["puffin", "gannet"]}, index=["a", "b[*]"])
        cube.kv.put(("n",), "none", {"a": "walrus"}, index=False)
        cube.update(cube.list()[5].id, state="archived")
        revision, count = cube.stats().revision, cube.stats().vectors
    with opened(tmp_path / "root", Failing(32, 300)) as memos:
        with pytest.raises(EmbedderMismatch, match="run memos"):
            memos.cube("alice")
        with pytest.raises(ConnectionError):
            memos.reembed("alice")
        assert memos.check().ok
    with opened(tmp_path / "root") as memos:
        cube = memos.cube("alice")
        assert cube.search("topic7")[0].item.text == "turn 7 speaks of topic7", "the old vectors serve"
        assert cube.stats().revision == revision
        assert cube.check().ok
        cube.add("written meanwhile about topic7")
        stale = cube
        with opened(tmp_path / "root", HashEmbedder(32)) as new:
            told: list[tuple[int, int]] = []
            assert 0 < new.reembed("alice", progress=lambda done, total: told.append((done, total))) < 400
            assert told
            cube = new.cube("alice")
            assert cube.stats().vectors == count + 1
            assert cube.stats().embedder == HashEmbedder(32).fingerprint
            assert {hit.item.text for hit in cube.search("topic7", limit=2)} == {
                "turn 7 speaks of topic7", "written meanwhile about topic7",
            }  # fmt: skip
            assert [entry.key for entry in cube.kv.search(query="puffin", limit=1)] == ["fields"]
            assert cube.kv.search(query="quokka")[0].key == "whole"
            assert cube.check().ok
            assert new.reembed("alice") == 0
        with pytest.raises(EmbedderMismatch, match="open"):
            stale.search("topic7")
        with pytest.raises(EmbedderMismatch, match="reembed"):
            stale.add("by the old one")


SHAPES: dict[str, Callable[[list[str]], Any]] = {
    "one row too few": lambda texts: np.ones((len(texts) - 1, 4)),
    "flat": lambda texts: np.ones(len(texts) * 4),
    "no columns": lambda texts: np.ones((len(texts), 0)),
    "NaN": lambda texts: np.full((len(texts), 4), np.nan),
    "infinite": lambda texts: np.full((len(texts), 4), np.inf),
    "zero": lambda texts: np.zeros((len(texts), 4)),
    "words": lambda texts: [["a"] * 4 for _ in texts],
    "ragged": lambda texts: [[1.0] * (2 + n) for n in range(len(texts))],
    "None": lambda texts: None,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bad_vectors(tmp_path: Path, shape: str) -> None:
    """An embedder that returns no vectors is told what to return, and nothing is stored."""
    broken = False

    def embed(texts: list[str]) -> Any:
        return SHAPES[shape](texts) if broken else np.ones((len(texts), 4))

    with opened(tmp_path / "root", FunctionEmbedder(embed, fingerprint="f:1")) as memos:
        cube = memos.cube("alice")
        item = cube.add("fine")
        broken = True
        for call in (
            lambda: cube.capture(TURNS[:3]),
            lambda: cube.add(["one", "two"]),
            lambda: cube.update(item.id, text="changed"),
            lambda: cube.search("fine"),
            lambda: cube.kv.put(("n",), "k", {"a": "b"}),
        ):
            with refused(cube, BadVector, r"Return|see what the embedder does"):
                call()


def test_vectors_of_another_width(tmp_path: Path) -> None:
    """A port whose width changes under one fingerprint is refused, by writes and by searches."""

    class Widening(HashEmbedder):
        """Says one fingerprint whatever its width."""

        fingerprint = "w:1"

    with opened(tmp_path / "root", Widening(8)) as memos:
        memos.cube("alice").add("fine")
    with opened(tmp_path / "root", Widening(16)) as memos:
        cube = memos.cube("alice")
        with refused(cube, EmbedderMismatch, "reembed"):
            cube.add("other")
        with refused(cube, BadVector, "width"):
            cube.search("fine")


def test_an_embedder_without_weights(tmp_path: Path) -> None:
    """Without the weights what needs no vector works, and what needs one says what to type."""
    with opened(tmp_path / "root") as memos:
        memos.cube("alice").capture(TURNS[:5], thread="t")
    with opened(tmp_path / "root", SentenceEmbedder(tmp_path / "nothing")) as memos:
        cube = memos.cube("alice")
        item = cube.list()[0]
        assert cube.get(item.id) == item
        assert cube.history(item.id)[-1].item == item
        assert cube.forget(item.id).items == (item.id,)
        assert cube.stats().items == 5
        for call in (
            lambda: cube.search("topic1"),
            lambda: cube.recall("topic1"),
            lambda: cube.capture([Message("user", "more")]),
            lambda: cube.add("more"),
            lambda: memos.reembed("alice"),
        ):
            with refused(cube, EmbedderUnavailable, "hf download"):
                call()
        fresh = memos.cube("fresh")
        with refused(fresh, EmbedderUnavailable, "hf download"):
            fresh.capture(TURNS[:1])
        assert fresh.search("topic1") == []


# Closed

CLOSED: dict[str, Callable[[MemOS, MemCube], object]] = {
    "cube": lambda memos, cube: memos.cube("alice"),
    "cubes": lambda memos, cube: memos.cubes(),
    "check": lambda memos, cube: memos.check(),
    "drain": lambda memos, cube: memos.drain(),
    "jobs": lambda memos, cube: memos.jobs(),
    "acting_as": lambda memos, cube: memos.acting_as(Scope(user="alice")),
    "threads": lambda memos, cube: memos.threads.list("t"),
    "capture": lambda memos, cube: cube.capture([Message("user", "more")]),
    "add": lambda memos, cube: cube.add("more"),
    "search": lambda memos, cube: cube.search("Lisbon"),
    "recall": lambda memos, cube: cube.recall("Lisbon"),
    "list": lambda memos, cube: cube.list(),
    "stats": lambda memos, cube: cube.stats(),
    "forget": lambda memos, cube: cube.forget("x"),
    "dump": lambda memos, cube: cube.dump("nowhere"),
    "kv.get": lambda memos, cube: cube.kv.get(("n",), "k"),
    "kv.put": lambda memos, cube: cube.kv.put(("n",), "k", {}),
}


def test_used_after_close(tmp_path: Path) -> None:
    """Every call after close says that it is closed and what to do; a second close does nothing."""
    memos = opened(tmp_path / "root")
    cube = memos.cube("alice")
    cube.capture(TURNS[:5])
    threads = memos.threads
    user = memos.acting_as(Scope(user="bob"))
    users = user.cube("his")
    memos.close()
    memos.close()
    for call in CLOSED.values():
        with pytest.raises(Closed, match="open"):
            call(memos, cube)
    for late in (lambda: threads.list("t"), users.list, lambda: user.cube("his")):
        with pytest.raises(Closed, match="open"):
            late()
    assert not Path("nowhere").exists()
    with opened(tmp_path / "root") as again:
        assert again.cube("alice").stats().by_kind["episode"] == 5
        assert again.check().ok
