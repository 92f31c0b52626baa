"""Cube files: what comes back is what was dumped, whole or in part; a dump is atomic."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_engine.errors import (
    BadInput,
    BadName,
    Conflict,
    StoreDamaged,
    StoreError,
)
from memos_engine.items import Edge, EdgeKind, Kind, Source, State, Tier, Visibility
from memos_engine.ports import Entry
from memos_engine.store.archive import dump, load, read_manifest
from memos_engine.store.manifest import MANIFEST, MEMBERS
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import from_micros
from memos_engine.store.sqlite import CubeFile
from memos_engine.store.writing import CubeWriter
from tests.store.archives import (
    CLOCK,
    EMBEDDER,
    ROOT,
    content,
    item,
    loaded,
    members_of,
    opened,
    small_cube,
    update,
    verified,
    write,
    zipped,
)

BOTH = pytest.mark.parametrize("suffix", ["", ".tar.zst"], ids=["folder", "tar.zst"])


def holders(reader: CubeReader, text: str) -> list[int]:
    """Return the refs that hold any word of a text."""
    found = reader.postings(text, lambda refs: refs > 0).found
    return sorted({int(ref) for refs, _ in found.values() for ref in refs})


@pytest.fixture
def cube(tmp_path: Path) -> Iterator[CubeFile]:
    """A small cube, closed at the end."""
    cube = small_cube(tmp_path / "cube")
    yield cube
    cube.close()


@pytest.fixture
def members(cube: CubeFile, tmp_path: Path) -> dict[str, bytes]:
    """The members of its dump."""
    return members_of(dump(cube, tmp_path / "dumped", name="ann", clock=CLOCK))


# What comes back

TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
VALUES = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
SOURCES = st.builds(
    Source,
    message_id=st.none() | TEXT, thread=st.none() | TEXT, document=st.none() | TEXT, url=st.none() | TEXT,
    span=st.none() | st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
)  # fmt: skip
FIELDS = st.fixed_dictionaries(
    {"text": TEXT},
    optional={
        "tier": st.sampled_from(get_args(Tier)), "role": TEXT, "speaker": TEXT, "session": TEXT, "author": TEXT,
        "event_at": TIMES, "valid_from": TIMES, "valid_to": TIMES, "expires_at": TIMES, "origin": TEXT,
        "state": st.sampled_from(get_args(State)), "confidence": st.floats(0, 1),
        "priority": st.floats(allow_nan=False, allow_infinity=False), "tags": st.lists(TEXT, max_size=3).map(tuple),
        "sources": st.lists(SOURCES, max_size=2).map(tuple), "visibility": st.sampled_from(get_args(Visibility)),
    },
)  # fmt: skip
PLACES = st.fixed_dictionaries(
    {}, optional={"thread": TEXT, "namespace": st.lists(LABELS, max_size=3).map(tuple)}
)
EDGES = st.tuples(
    st.integers(0, 9), st.sampled_from(get_args(EdgeKind)), st.integers(0, 9), st.floats(-1e300, 1e300)
)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """What to do to an empty cube."""
    return {
        "items": draw(
            st.lists(
                st.tuples(st.sampled_from(get_args(Kind)), FIELDS, PLACES, st.booleans(), VALUES), max_size=10
            )
        ),
        "updates": draw(st.lists(st.tuples(st.integers(0, 9), FIELDS), max_size=4)),
        "edges": draw(st.lists(EDGES, max_size=8)),
        "erased": draw(st.sets(st.integers(0, 9), max_size=2)),
        "calls": draw(st.dictionaries(TEXT, st.binary(max_size=32), max_size=2)),
    }


def build(folder: Path, plan: dict[str, Any]) -> CubeFile:
    """A cube made by a plan."""
    cube = opened(folder)
    entries = [_planned(number, *one) for number, one in enumerate(plan["items"])]
    last = len(entries)

    def add(writer: CubeWriter) -> None:
        writer.add(entries, writer.use_embedder(EMBEDDER.fingerprint, 8) if entries else None)
        writer.link([Edge(f"i{s}", kind, f"i{t}", w) for s, kind, t, w in plan["edges"] if max(s, t) < last])
        for key, digest in plan["calls"].items():
            writer.remember_call(key, digest, "{}")

    write(cube, add)
    for place, fields in plan["updates"]:
        if place < last and entries[place].item.kind not in ("concept", "topic"):
            update(cube, f"i{place}", **fields)
    refs = [place + 1 for place in plan["erased"] if place < last]
    write(cube, lambda writer: writer.erase(refs), "forget")
    return cube


def _planned(
    number: int, kind: Kind, fields: dict[str, Any], place: dict[str, Any], keyed: bool, value: Any
) -> Entry:
    text = f"{number} {fields['text']}"
    made = item(f"i{number}", **{**fields, **place, "kind": kind, "text": text})
    if kind == "episode":
        return Entry(made, {"turn": EMBEDDER.embed([text])[0]}, f"key{number}")
    if keyed:
        made = item(
            f"i{number}",
            **{**fields, **place, "kind": kind, "text": text, "key": f"k{number}", "value": value},
        )
    return Entry(made, {"turn": EMBEDDER.embed([text])[0], "": EMBEDDER.embed(["x"])[0]})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), suffix=st.sampled_from(["", ".tar.zst"]))
def test_a_dump_comes_back_as_it_was(plan: dict[str, Any], suffix: str) -> None:
    """Any cube, dumped and loaded, has the same items, histories, edges, vectors, words, audit and tombstones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cube = build(folder / "cube", plan)
        try:
            before = content(cube)
            path = dump(cube, folder / f"dumped{suffix}", name="any", clock=CLOCK)
            assert loaded(path, folder / "loaded") == before
        finally:
            cube.close()


@BOTH
def test_a_small_cube_comes_back(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """The cube with a little of everything comes back by either container, and is private on the disk."""
    path = dump(cube, tmp_path / f"x{suffix}", name="ann", clock=CLOCK)
    before = content(cube)
    assert len(before.items) == 6
    assert len(before.history["f"]) == 3
    assert before.tombstones
    assert before.calls
    assert loaded(path, tmp_path / "loaded") == before
    assert sorted(entry.name for entry in (tmp_path / "loaded").iterdir()) == ["memory.db"]
    if os.name == "posix":
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in files)


@BOTH
def test_a_loaded_cube_lives_on(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """A loaded cube is found by keyword in any script, takes new items, erases, and can be dumped again."""
    load(
        dump(cube, tmp_path / f"x{suffix}", name="a", clock=CLOCK),
        tmp_path / "l",
        "b",
        CLOCK,
        principal="user:bob",
    )
    copy = CubeFile(tmp_path / "l", "b", CLOCK)
    try:
        with copy.read() as reader:
            assert holders(reader, "东京") == [reader.ref("e1", ROOT)]
            assert holders(reader, "Lisbon") == [reader.ref("e0", ROOT)]
            assert holders(reader, "forgotten") == []
        refs = write(copy, lambda writer: writer.add([Entry(item("new", "a new thing"))], None))
        with copy.read() as reader:
            numbers = [row[0] for row in reader.connection.execute("SELECT n FROM tombstones")]
        assert refs[0] > max(numbers), "a number of a forgotten item was given out again"
        write(copy, lambda writer: writer.erase(refs), "forget")
        assert verified(content(copy).audit)
        again = content(copy)
        path = dump(copy, tmp_path / "again", name="b", clock=CLOCK)
        assert loaded(path, tmp_path / "twice") == again
    finally:
        copy.close()


@BOTH
def test_a_part_by_kind(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """Items of the chosen kinds come with their versions, vectors and the edges among them, and no other."""
    whole = content(cube)
    path = dump(cube, tmp_path / f"x{suffix}", name="ann", clock=CLOCK, kinds=["fact", "concept", "episode"])
    assert read_manifest(path).kinds == ("concept", "episode", "fact")
    part = loaded(path, tmp_path / "loaded")
    assert {one.id for one in part.items} == {"e0", "e1", "e2", "c", "f"}
    assert part.history == {id_: versions for id_, versions in whole.history.items() if id_ != "k"}
    assert (part.edges, part.vectors, part.audit) == (whole.edges, whole.vectors, whole.audit)
    assert part.tombstones, "a forgotten turn must not be captured again"
    assert part.calls == [], "a retry must not be told of items that are not there"
    turns = loaded(
        dump(cube, tmp_path / f"y{suffix}", name="a", clock=CLOCK, kinds=["episode"]), tmp_path / "turns"
    )
    assert [(edge.source, edge.target) for edge in turns.edges] == [("e0", "e1"), ("e1", "e2")]


@pytest.mark.parametrize("kinds", [[], ["text"], "fact"])
def test_unknown_kinds_are_refused(cube: CubeFile, tmp_path: Path, kinds: Any) -> None:
    """A kind that does not exist, or none at all, is bad input."""
    with pytest.raises(BadInput, match="choose of episode, fact"):
        dump(cube, tmp_path / "x", name="a", clock=CLOCK, kinds=kinds)


@BOTH
def test_an_empty_cube_comes_back(tmp_path: Path, suffix: str) -> None:
    """A cube that was never written dumps and loads."""
    cube = opened(tmp_path / "cube")
    path = dump(cube, tmp_path / f"x{suffix}", name="empty", clock=CLOCK)
    assert loaded(path, tmp_path / "loaded") == content(cube)
    assert read_manifest(path).embedder is None
    cube.close()


@BOTH
def test_the_manifest_tells_what_is_inside(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """The manifest names the cube, its embedder, the moment and the counts, without a look at the members."""
    manifest = read_manifest(dump(cube, tmp_path / f"x{suffix}", name="安", clock=CLOCK))
    assert (manifest.cube, manifest.name, manifest.created_at, manifest.kinds) == (
        "cube-a",
        "安",
        CLOCK(),
        None,
    )
    assert manifest.embedder is not None
    assert (manifest.embedder.fingerprint, manifest.embedder.dimension) == (EMBEDDER.fingerprint, 8)
    assert (manifest.counts.items, manifest.counts.versions, manifest.counts.tombstones) == (6, 2, 1)
    assert tuple(manifest.files) == MEMBERS


def test_any_tar_program_reads_a_dump(cube: CubeFile, tmp_path: Path) -> None:
    """The packed file is a plain tar in a plain zstd frame, and a folder packed by a tar library loads."""
    path = dump(cube, tmp_path / "x.tar.zst", name="a", clock=CLOCK)
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        assert tar.getnames() == [MANIFEST, *MEMBERS]
    folder = dump(cube, tmp_path / "y", name="a", clock=CLOCK)
    with tarfile.open(tmp_path / "z.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in (MANIFEST, *sorted(MEMBERS)):
            tar.add(folder / name, name)
    repacked = tmp_path / "z.tar.zst"
    repacked.write_bytes(zipped((tmp_path / "z.tar").read_bytes(), level=19))
    assert loaded(repacked, tmp_path / "loaded") == content(cube)


def test_progress_is_told_both_ways(tmp_path: Path) -> None:
    """Progress counts the rows, ends at their total, and is the same both ways."""
    cube = opened(tmp_path / "cube")
    write(cube, lambda writer: writer.add([Entry(item(f"n{n}", f"text {n}")) for n in range(2_500)], None))
    told: list[tuple[int, int]] = []
    path = dump(cube, tmp_path / "x", name="a", clock=CLOCK, progress=lambda *at: told.append(at))
    assert told == [(1_000, 2_501), (2_000, 2_501), (2_501, 2_501)]
    again: list[tuple[int, int]] = []
    loaded(path, tmp_path / "loaded", progress=lambda *at: again.append(at))
    assert again == told
    cube.close()


@BOTH
def test_a_dump_is_one_moment(tmp_path: Path, suffix: str) -> None:
    """What others write while a dump runs is not in it: neither new items nor changes nor their edges."""
    cube = opened(tmp_path / "cube")
    write(cube, lambda writer: writer.add([Entry(item(f"n{n}", f"text {n}")) for n in range(1_500)], None))
    before = content(cube)

    def meddle(done: int, total: int) -> None:
        write(cube, lambda writer: writer.add([Entry(item(f"late{done}", "too late"))], None))
        write(cube, lambda writer: writer.link([Edge(f"late{done}", "next", "n0"), Edge("n0", "next", "n1")]))
        update(cube, "n1400", f"changed {done}")

    path = dump(cube, tmp_path / f"x{suffix}", name="a", clock=CLOCK, progress=meddle)
    assert len(content(cube).items) > 1_500
    assert loaded(path, tmp_path / "loaded") == before
    cube.close()


def test_the_audit_tells_of_the_load(cube: CubeFile, tmp_path: Path) -> None:
    """The chain goes on with who loaded, from which cube, how many items."""
    clock_before = CLOCK()
    path = dump(cube, tmp_path / "x", name="a", clock=CLOCK)
    load(path, tmp_path / "l", "cube-b", CLOCK, principal="user:bob")
    copy = CubeFile(tmp_path / "l", "cube-b", CLOCK)
    rows = content(copy).audit
    with copy.read() as reader:
        changes = reader.changes(since=0)
    copy.close()
    assert from_micros(rows[-1][0]) == clock_before
    assert rows[-1][1:4] == ("user:bob", "load", '{"cube":"cube-a","items":6}')
    assert [(change.op, change.item) for change in changes] == [
        ("add", id_) for id_ in ("e0", "e1", "e2", "c", "f", "k")
    ]


# What stands at the target


@BOTH
def test_what_exists_is_not_replaced_unless_said(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """A second dump to one path is a conflict; with `overwrite` it replaces the first, by either container."""
    path = dump(cube, tmp_path / f"x{suffix}", name="first", clock=CLOCK)
    with pytest.raises(Conflict, match="overwrite=True"):
        dump(cube, path, name="second", clock=CLOCK)
    assert read_manifest(path).name == "first"
    dump(cube, path, name="second", clock=CLOCK, overwrite=True)
    assert read_manifest(path).name == "second"
    assert loaded(path, tmp_path / "loaded") == content(cube)
    assert not list(tmp_path.glob(".dump.*"))


def test_overwrite_never_deletes_a_folder_of_others(cube: CubeFile, tmp_path: Path) -> None:
    """`overwrite` replaces a cube file or an empty folder, and refuses a folder with anything else in it."""
    home = tmp_path / "home"
    (home / "letters").mkdir(parents=True)
    with pytest.raises(Conflict, match="no cube file"):
        dump(cube, home, name="a", clock=CLOCK, overwrite=True)
    assert (home / "letters").is_dir()
    (home / "letters").rmdir()
    assert read_manifest(dump(cube, home, name="a", clock=CLOCK, overwrite=True)).name == "a"
    file = tmp_path / "file"
    file.write_text("old")
    assert read_manifest(dump(cube, file, name="a", clock=CLOCK, overwrite=True)).name == "a"


@pytest.mark.parametrize(
    ("name", "error"),
    [("no/such/x", StoreError), ("file/x.tar.zst", StoreError), ("nul\0", BadName), ("n" * 300, StoreError)],
)
def test_a_place_that_cannot_be_written(
    cube: CubeFile, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    """A path whose folder is not there, is a file, or that is no path, is refused and nothing is left."""
    (tmp_path / "file").touch()
    with pytest.raises(error):
        dump(cube, tmp_path / name, name="a", clock=CLOCK)
    assert not list(tmp_path.glob(".dump.*"))


@BOTH
def test_a_failed_dump_leaves_nothing(cube: CubeFile, tmp_path: Path, suffix: str) -> None:
    """An error in the middle of a dump leaves neither a target nor a part of one, and the old target whole."""

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for overwrite in (False, True):
        with pytest.raises(KeyboardInterrupt):
            dump(cube, tmp_path / f"x{suffix}", name="b", clock=CLOCK, overwrite=overwrite, progress=fail)
        assert not list(tmp_path.glob(".dump.*"))
        if overwrite:
            assert read_manifest(tmp_path / f"x{suffix}").name == "a"
        else:
            assert not (tmp_path / f"x{suffix}").exists()
            dump(cube, tmp_path / f"x{suffix}", name="a", clock=CLOCK)


def test_a_row_that_could_not_be_loaded_is_told_by_dump(cube: CubeFile, tmp_path: Path) -> None:
    """A store that holds what no item may hold is told at dump time, not when the copy is needed."""

    def spoil(writer: CubeWriter) -> None:
        writer.connection.execute("UPDATE items SET confidence = 7 WHERE id = 'e0'")

    write(cube, spoil)
    with pytest.raises(StoreDamaged, match="'e0'"):
        dump(cube, tmp_path / "x", name="a", clock=CLOCK)
    assert not (tmp_path / "x").exists()


CHILD = """
import sys, time
from pathlib import Path
from memos_engine.store.archive import dump
from memos_engine.store.sqlite import CubeFile
from tests.store.archives import CLOCK

folder, path, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
left = stop

def told(done, total):
    global left
    left -= 1
    if left == 0:
        print("now", flush=True)
        time.sleep(600)

if stop < 0:
    print("now", flush=True)
dump(CubeFile(folder, "cube-a", CLOCK), path, name="killed", clock=CLOCK, overwrite=path.exists(), progress=told)
"""


@BOTH
@pytest.mark.parametrize("exists", [False, True], ids=["new", "over"])
def test_a_killed_dump_leaves_nothing_at_its_target(tmp_path: Path, suffix: str, exists: bool) -> None:
    """Kill -9 in the middle of writing, at three places and at four moments, leaves the target as it was or done."""
    cube = opened(tmp_path / "cube")
    write(
        cube, lambda writer: writer.add([Entry(item(f"n{n}", f"text {n} " * 50)) for n in range(4_500)], None)
    )
    before = content(cube)
    path = tmp_path / f"x{suffix}"
    if exists:
        dump(cube, path, name="old", clock=CLOCK)
    for stop, wait_s in ((1, 0), (3, 0), (5, 0), (-1, 0.01), (-1, 0.03), (-1, 0.06), (-1, 0.1)):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "cube"), str(path), str(stop)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        time.sleep(wait_s)
        done = child.poll() == 0
        child.kill()
        child.wait()
        child.stdout.close()
        if stop > 0:
            assert not done
            assert path.exists() == exists
            assert not exists or read_manifest(path).name == "old"
        elif path.exists():  # the old one, or by now the new one, but a whole one
            assert loaded(path, tmp_path / "loaded") == before
            shutil.rmtree(tmp_path / "loaded")
    assert list(tmp_path.glob(".dump.*")), "the child was killed before it had begun"
    assert content(cube) == before
    dump(cube, path, name="new", clock=CLOCK, overwrite=True)
    assert loaded(path, tmp_path / "loaded") == before
    cube.close()
