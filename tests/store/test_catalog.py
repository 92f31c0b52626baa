"""The catalog of a root: cubes by owner and name, grants, tombstones; several threads and processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from memos_engine.errors import BadInput, BadRoot, Closed, Conflict, CubeNotFound, SchemaTooNew, StoreDamaged
from memos_engine.ids import new_id
from memos_engine.items import CubeRow, NewJob
from memos_engine.store.catalog import CATALOG_DATABASE, Catalog
from memos_engine.store.queue import SqliteJobQueue
from memos_engine.testing.fakes import FrozenClock

ROOT = Path(__file__).parent.parent.parent
ALICE, BOB, EVE = "user:alice", "user:bob", "user:eve"


@pytest.fixture
def clock() -> FrozenClock:
    """Return a clock that the tests move."""
    return FrozenClock()


@pytest.fixture
def catalog(tmp_path: Path, clock: FrozenClock) -> Iterator[Catalog]:
    """Lend a new catalog."""
    catalog = Catalog(tmp_path, clock)
    yield catalog
    catalog.close()


def test_a_cube_is_found_by_name_and_id(catalog: Catalog, clock: FrozenClock, tmp_path: Path) -> None:
    """Names belong to their owner; what was created is there after a reopen."""
    hers = catalog.create_cube("id-1", ALICE, "notes é 雪")
    clock.advance(timedelta(seconds=1))
    his = catalog.create_cube("id-0", BOB, "notes é 雪")
    assert hers == CubeRow("id-1", ALICE, "notes é 雪", clock() - timedelta(seconds=1))
    catalog.close()
    again = Catalog(tmp_path, clock)
    assert again.cube(ALICE, "notes é 雪") == again.cube_by_id("id-1") == hers
    assert again.cube(BOB, "notes é 雪") == his
    assert again.cube(EVE, "notes é 雪") is None
    assert again.cube(ALICE, "other") is None
    assert again.cube_by_id("id-2") is None
    assert again.cubes() == [hers, his]
    again.close()


def test_a_lost_race_returns_the_winner(catalog: Catalog) -> None:
    """Whoever comes second gets the first one's row, in whatever thread."""
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda n: catalog.create_cube(f"id-{n}", ALICE, "one"), range(32)))
    assert len(set(rows)) == 1
    assert catalog.cubes() == rows[:1]


def test_an_id_is_given_out_once(catalog: Catalog) -> None:
    """Neither a living cube's id nor a removed one's can be used again."""
    catalog.create_cube("id-1", ALICE, "one")
    with pytest.raises(Conflict, match="id-1"):
        catalog.create_cube("id-1", ALICE, "two")
    catalog.remove_cube("id-1")
    with pytest.raises(Conflict, match="id-1"):
        catalog.create_cube("id-1", BOB, "one")
    assert catalog.cubes() == []


def test_rights_are_the_owners_and_those_granted(catalog: Catalog) -> None:
    """One right per pair: a later grant replaces the earlier one, and only on that cube."""
    catalog.create_cube("id-1", ALICE, "one")
    catalog.create_cube("id-2", ALICE, "two")
    assert [catalog.right("id-1", who) for who in (ALICE, BOB, EVE)] == ["owner", None, None]
    catalog.grant("id-1", BOB, "read")
    assert catalog.right("id-1", BOB) == "read"
    catalog.grant("id-1", BOB, "write")
    catalog.grant("id-1", EVE, "read")
    assert catalog.grants("id-1") == {BOB: "write", EVE: "read"}
    assert catalog.right("id-2", BOB) is None
    assert [cube.id for cube in catalog.cubes(ALICE)] == ["id-1", "id-2"]
    assert [cube.id for cube in catalog.cubes(BOB)] == ["id-1"]
    catalog.revoke("id-1", BOB)
    catalog.revoke("id-1", BOB)
    catalog.revoke("id-1", ALICE)
    assert [catalog.right("id-1", who) for who in (ALICE, BOB, EVE)] == ["owner", None, "read"]
    assert catalog.cubes(BOB) == []
    assert catalog.right("nowhere", ALICE) is None
    assert catalog.grants("nowhere") == {}


def test_grants_that_make_no_sense_are_refused(catalog: Catalog) -> None:
    """Ownership is not granted, nor anything on a cube that is not there."""
    catalog.create_cube("id-1", ALICE, "one")
    for right in ("owner", "admin", ""):
        with pytest.raises(BadInput, match="read"):
            catalog.grant("id-1", BOB, cast("Any", right))
    with pytest.raises(BadInput, match="owns"):
        catalog.grant("id-1", ALICE, "read")
    with pytest.raises(CubeNotFound, match="nowhere"):
        catalog.grant("nowhere", BOB, "read")
    assert catalog.grants("id-1") == {}


def test_a_removed_cube_takes_its_grants_and_jobs_along(catalog: Catalog, clock: FrozenClock) -> None:
    """A tombstone stays; the other cubes are as they were; the name is free again."""
    queue = SqliteJobQueue(catalog.database, clock)
    for id_ in ("id-1", "id-2"):
        catalog.create_cube(id_, ALICE, id_)
        catalog.grant(id_, BOB, "write")
    queue.enqueue([NewJob("id-1", "index"), NewJob("id-2", "index")])
    catalog.remove_cube("id-1")
    catalog.remove_cube("id-1")
    catalog.remove_cube("nowhere")
    assert [catalog.removed(id_) for id_ in ("id-1", "id-2", "nowhere")] == [True, False, False]
    assert catalog.cube(ALICE, "id-1") is None
    assert (catalog.right("id-1", BOB), catalog.right("id-1", ALICE)) == (None, None)
    assert [cube.id for cube in catalog.cubes(BOB)] == ["id-2"]
    assert [job.cube for job in queue.jobs()] == ["id-2"]
    assert catalog.create_cube("id-3", ALICE, "id-1").id == "id-3"


def test_a_closed_catalog_says_so(catalog: Catalog) -> None:
    """Reads and writes after `close` name the cure; closing twice does nothing."""
    catalog.close()
    catalog.close()
    with pytest.raises(Closed, match="open"):
        catalog.cubes()
    with pytest.raises(Closed, match="open"):
        catalog.create_cube("id-1", ALICE, "one")


def test_what_is_no_catalog_is_refused(tmp_path: Path, clock: FrozenClock) -> None:
    """Garbage, another program's database and a newer schema each have their error; nothing is changed."""
    path = tmp_path / CATALOG_DATABASE
    path.write_bytes(b"not a database, but long enough to be looked at" * 99)
    with pytest.raises(StoreDamaged):
        Catalog(tmp_path, clock)
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x); PRAGMA application_id = 7")
    connection.close()
    with pytest.raises(BadRoot, match="another program"):
        Catalog(tmp_path, clock)
    path.unlink()
    Catalog(tmp_path, clock).close()
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaTooNew, match="99"):
        Catalog(tmp_path, clock)
    with pytest.raises(BadRoot):
        Catalog(tmp_path / "missing", clock)


CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from memos_engine.ids import new_id
from memos_engine.store.catalog import Catalog
from memos_engine.testing.fakes import FrozenClock

print("ready", flush=True)
sys.stdin.readline()
catalog = Catalog(Path(sys.argv[1]), FrozenClock())
with ThreadPoolExecutor(4) as pool:
    for row in pool.map(lambda n: catalog.create_cube(new_id(), "user:alice", f"cube {n}"), range(40)):
        print(row.name, row.id, sep="|")
catalog.close()
"""


def test_processes_agree_on_every_cube(tmp_path: Path, clock: FrozenClock) -> None:
    """Three processes open a new root at once and create the same names: each name has one id everywhere."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [sorted(child.communicate()[0].splitlines()) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    catalog = Catalog(tmp_path, clock)
    told = sorted(f"{cube.name}|{cube.id}" for cube in catalog.cubes())
    assert len(told) == 40
    assert outputs == [told] * 3
    assert catalog.create_cube(new_id(), ALICE, "cube 0").id in told[0]
    catalog.close()
