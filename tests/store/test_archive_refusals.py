"""Cube files made by hand: nothing hostile, foreign, damaged or contradictory gets into a cube."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from memos_engine.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveForeign,
    ArchiveUnsafe,
    BadRoot,
    StoreError,
)
from memos_engine.store.archive import dump, load, read_manifest
from memos_engine.store.manifest import MANIFEST
from memos_engine.store.sqlite import CubeFile
from tests.store.archives import (
    CLOCK,
    as_folder,
    counted,
    first_manifest,
    members_of,
    plain,
    refused,
    sealed,
    small_cube,
    tarred,
    zipped,
)


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


Members = dict[str, bytes]
EVIL_NAMES = [
    "/etc/passwd", "../items.jsonl", "..", ".", "a/../items.jsonl", "a/items.jsonl", "..\\items.jsonl", "\\\\host\\x",
    "C:items.jsonl", "C:\\x", "./items.jsonl", "extra.txt", "items.jsonl ", "ITEMS.JSONL", "items.jsonl/",
    "ｉtems.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_names_that_are_paths_or_not_in_the_list(members: Members, tmp_path: Path, name: str) -> None:
    """A member whose name is a path, or not one of the list, is refused, wherever the tar holds it."""
    for place in (0, 1, len(members)):
        pairs = [(plain(one, data), data) for one, data in first_manifest(members).items()]
        pairs.insert(place, (plain(name, b"x"), b"x"))
        path = tmp_path / "evil.tar.zst"
        path.write_bytes(zipped(tarred(pairs)))
        assert isinstance(
            refused(path, tmp_path / "l"), ArchiveUnsafe if place else (ArchiveUnsafe, ArchiveForeign)
        )
    manifest = json.loads(members[MANIFEST])["files"]
    if name not in manifest:
        manifest[name] = manifest["items.jsonl"]
        evil = as_folder({**members, **sealed(members, files=manifest)}, tmp_path / "evil")
        refused(evil, tmp_path / "l")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
     tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE, b"Z"],
)  # fmt: skip
def test_links_devices_and_extended_headers(members: Members, tmp_path: Path, kind: bytes) -> None:
    """Only plain files may stand in the tar, even under a name of the list."""
    for place in (0, 3):
        pairs = [(plain(one, data), data) for one, data in first_manifest(members).items()]
        name = pairs[place][0].name
        pairs[place] = (plain(name, b"", type=kind, linkname="/etc/passwd"), b"")
        path = tmp_path / "evil.tar.zst"
        path.write_bytes(zipped(tarred(pairs)))
        assert isinstance(refused(path, tmp_path / "l"), ArchiveUnsafe)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX's")
@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
@pytest.mark.parametrize("name", [MANIFEST, "items.jsonl", "extra"])
def test_a_folder_with_anything_but_plain_files(
    members: Members, tmp_path: Path, kind: str, name: str
) -> None:
    """A link, pipe or folder in a cube file that is a folder is refused, and never followed or opened."""
    folder = as_folder(members, tmp_path / "evil")
    (tmp_path / "outside").write_bytes(members.get(name, b""))
    (folder / name).unlink(missing_ok=True)
    if kind == "folder":
        (folder / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(tmp_path / ("outside" if kind == "link" else "nowhere"))
    assert isinstance(refused(folder, tmp_path / "l"), ArchiveUnsafe)


def test_members_missing_extra_or_twice(members: Members, tmp_path: Path) -> None:
    """The members are exactly those of the list, each once."""
    order = first_manifest(members)
    pairs = [(plain(one, data), data) for one, data in order.items()]
    for number, changed in enumerate((pairs[:-1], [*pairs, pairs[2]], [*pairs, pairs[0]], pairs[1:], [])):
        path = tmp_path / f"{number}.tar.zst"
        path.write_bytes(zipped(tarred(changed)))
        refused(path, tmp_path / "l")
    for name in members:
        folder = as_folder(
            {one: data for one, data in members.items() if one != name}, tmp_path / f"no-{name}"
        )
        refused(folder, tmp_path / "l")
    extra = as_folder({**members, ".DS_Store": b""}, tmp_path / "extra")
    assert "remove it" in str(refused(extra, tmp_path / "l"))


def test_bombs(members: Members, tmp_path: Path) -> None:
    """What unpacks beyond the manifest, the bound, or a thousand times its size, or wants a huge window, is refused."""
    order = first_manifest(members)
    path = tmp_path / "bomb.tar.zst"
    zeros = bytes(80 * 2**20)
    path.write_bytes(zipped(tarred(first_manifest(sealed({**order, "calls.jsonl": zeros})))))
    assert path.stat().st_size < 2**16
    assert "bomb" in str(refused(path, tmp_path / "l"))
    path.write_bytes(zipped(tarred({**order, "calls.jsonl": zeros})))
    assert isinstance(refused(path, tmp_path / "l"), ArchiveUnsafe)
    path.write_bytes(zipped(tarred(order) + zeros))
    assert isinstance(refused(path, tmp_path / "l"), ArchiveUnsafe)
    path.write_bytes(zipped(tarred(order)))
    assert "bytes_max" in str(refused(path, tmp_path / "l", bytes_max=100))
    wide = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    path.write_bytes(
        zstandard.ZstdCompressor(compression_params=wide).compress(tarred(order) + os.urandom(2**24))
    )
    assert "window" in str(refused(path, tmp_path / "l"))
    path.write_bytes(zipped(tarred({**order, MANIFEST: order[MANIFEST] + b" " * 2**20})))
    assert isinstance(refused(path, tmp_path / "l"), ArchiveUnsafe)
    info = plain("calls.jsonl", b"")
    info.size = 2**62
    path.write_bytes(
        zipped(tarred([*((plain(n, d), d) for n, d in order.items() if n != "calls.jsonl"), (info, b"")]))
    )
    assert isinstance(refused(path, tmp_path / "l"), ArchiveUnsafe)
    info.size = -1
    path.write_bytes(
        zipped(tarred([*((plain(n, d), d) for n, d in order.items() if n != "calls.jsonl"), (info, b"")]))
    )
    assert isinstance(refused(path, tmp_path / "l"), ArchiveDamaged)


def test_foreign_formats(members: Members, tmp_path: Path) -> None:
    """Another format, a newer version, or no archive at all, is told as foreign; nothing as a crash."""
    foreign: list[dict[str, Any]] = [{"format": "zip"}, {"version": 2}, {"version": 0}, {"version": 2**70}]
    for number, fields in enumerate(foreign):
        folder = as_folder(sealed(members, **fields), tmp_path / f"f{number}")
        assert isinstance(refused(folder, tmp_path / "l"), ArchiveForeign)
        with pytest.raises(ArchiveForeign):
            read_manifest(folder)
    newer = as_folder(sealed(members, version=2), tmp_path / "newer")
    assert "pip install -U" in str(refused(newer, tmp_path / "l"))
    for number, data in enumerate(
        (b"", b"PK\x03\x04", tarred(members), b"\x28\xb5\x2f\xfd", zipped(b""), zipped(b"x" * 600))
    ):
        path = tmp_path / f"{number}.tar.zst"
        path.write_bytes(data)
        refused(path, tmp_path / "l")
    (tmp_path / "empty").mkdir()
    assert isinstance(refused(tmp_path / "empty", tmp_path / "l"), ArchiveForeign)
    for path in (tmp_path / "nowhere", tmp_path / "nul\0", tmp_path / "0.tar.zst" / "x"):
        refused(path, tmp_path / "l")
    with pytest.raises(ArchiveError, match="check the path"):
        read_manifest(tmp_path / "nowhere")


def test_changed_cut_off_and_trailing_bytes(cube: CubeFile, members: Members, tmp_path: Path) -> None:
    """A wrong checksum, a truncation at any of many places, or bytes after the end, never load as something else."""
    for name, data in members.items():
        changed = bytearray(data or b"\n")
        changed[len(changed) // 2] ^= 1
        folder = as_folder({**members, name: bytes(changed)}, tmp_path / f"changed-{name}")
        refused(folder, tmp_path / "l")
    whole = dump(cube, tmp_path / "x.tar.zst", name="a", clock=CLOCK).read_bytes()
    path = tmp_path / "cut.tar.zst"
    for end in range(0, len(whole) - 8, 97):
        path.write_bytes(whole[:end])
        refused(path, tmp_path / "l")
    for tail in (b"x", b"\0" * 8, zipped(b"more"), whole):
        path.write_bytes(whole + tail)
        refused(path, tmp_path / "l")


def _line(name: str, old: str, new: str) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        data = members[name].decode()
        assert old in data, (old, data)
        return counted({**members, name: data.replace(old, new, 1).encode("utf-8", "surrogatepass")})

    return change


def _raw(name: str, change: Callable[[bytes], bytes], recount: bool = True) -> Callable[[Members], Members]:
    return lambda members: (counted if recount else sealed)({**members, name: change(members[name])})


def _times(data: bytes, number: float) -> bytes:
    rows = np.frombuffer(data, "<f4").copy()
    rows[3] = number
    return rows.tobytes()


WRONG: dict[str, Callable[[Members], Members]] = {
    "kind": _line("items.jsonl", '"kind":"fact"', '"kind":"lie"'),
    "state": _line("items.jsonl", '"state":"activated"', '"state":"awake"'),
    "tier": _line("items.jsonl", '"tier":"long_term"', '"tier":7'),
    "visibility": _line("items.jsonl", '"visibility":"cube"', '"visibility":"all"'),
    "text is a number": _line("items.jsonl", '"text":"Ann"', '"text":1'),
    "text is null": _line("items.jsonl", '"text":"Ann"', '"text":null'),
    "version as text": _line("items.jsonl", '"version":1', '"version":"1"'),
    "version as float": _line("items.jsonl", '"version":1', '"version":1.0'),
    "version beyond SQLite": _line("items.jsonl", '"version":1', f'"version":{2**64}'),
    "confidence": _line("items.jsonl", '"confidence":1.0', '"confidence":1.5'),
    "priority NaN": _line("items.jsonl", '"priority":0.0', '"priority":NaN'),
    "priority infinite": _line("items.jsonl", '"priority":0.0', '"priority":1e999'),
    "value NaN": _line("items.jsonl", "2.5", "NaN"),
    "value infinite": _line("items.jsonl", "2.5", "-1e999"),
    "value is a list": _line("items.jsonl", '"value":{"a":[1,2.5,null,{"b":"c"}]}', '"value":[1]'),
    "value too deep": _line("items.jsonl", "2.5", "[" * 100_000 + "]" * 100_000),
    "value too long a number": _line("items.jsonl", "2.5", "1" * 5_000),
    "time before year 1": _line("items.jsonl", '"created_at":1', '"created_at":-99'),
    "time after year 9999": _line("items.jsonl", '"created_at":1', '"created_at":9999'),
    "time as text": _line("items.jsonl", '"valid_from":null', '"valid_from":"2026"'),
    "lone surrogate": _line("items.jsonl", "Lisbon", "\ud800"),
    "escaped surrogate": _line("items.jsonl", "Lisbon", "\\ud800"),
    "no UTF-8": _raw("items.jsonl", lambda data: data.replace(b"Lisbon", b"\xff\xfe")),
    "NUL in a label": _line("items.jsonl", '"users"', '"us\\u0000ers"'),
    "namespace as text": _line("items.jsonl", '["users","ann"]', '"users"'),
    "tags of numbers": _line("versions.jsonl", '"tags":["home","城市"]', '"tags":[1]'),
    "a field too many": _line("items.jsonl", '"id":"e0"', '"id":"e0","n":1'),
    "a field too few": _line("items.jsonl", '"role":"user",', ""),
    "source of another shape": _line("items.jsonl", '"document":"d"', '"document":"d","evil":1'),
    "id empty": _line("items.jsonl", '"id":"e0"', '"id":""'),
    "id twice": _line("items.jsonl", '"id":"e1"', '"id":"e0"'),
    "turn twice": _line("items.jsonl", '"message_key":"key1"', '"message_key":"key0"'),
    "indexed as number": _line("items.jsonl", '"indexed":true', '"indexed":1'),
    "a node in the index": _line("items.jsonl", '"indexed":false', '"indexed":true'),
    "not JSON": _line("items.jsonl", "{", "["),
    "an empty line": _raw("items.jsonl", lambda data: b"\n" + data),
    "no end of line": _raw("items.jsonl", lambda data: data[:-1]),
    "a line too many": _raw("items.jsonl", lambda data: data + b"{}\n", recount=False),
    "a line too few": _raw("items.jsonl", lambda data: data[data.index(b"\n") + 1 :], recount=False),
    "a line too long": _raw("calls.jsonl", lambda data: data[:-1] + b" " * (32 * 2**20) + b"\n"),
    "version of nobody": _line("versions.jsonl", '"item":"f"', '"item":"nobody"'),
    "version of the future": _line("versions.jsonl", '"version":1,"until"', '"version":9,"until"'),
    "version twice": _line("versions.jsonl", '"version":1,"until"', '"version":2,"until"'),
    "version with an id": _line("versions.jsonl", '"state":{', '"state":{"id":"x",'),
    "version with null": _line("versions.jsonl", '"state":{', '"state":{"role":null,"thread":null,'),
    "version with NaN": _line("versions.jsonl", '"state":{', '"state":{"value":{"a":NaN},'),
    "edge kind": _line("edges.jsonl", '"kind":"next"', '"kind":"nxt"'),
    "edge to nobody": _line("edges.jsonl", '"target":"c"', '"target":"nobody"'),
    "edge from nobody": _line("edges.jsonl", '"source":"f"', '"source":"nobody"'),
    "edge twice": _raw("edges.jsonl", lambda data: data + data[: data.index(b"\n") + 1]),
    "edge weight": _line("edges.jsonl", "0.25", "Infinity"),
    "vector of nobody": _line("vectors.jsonl", '"item":"e0"', '"item":"nobody"'),
    "vector of an archived item": _line("vectors.jsonl", '"item":"e0"', '"item":"f"'),
    "vector NaN": _raw("vectors.f32", lambda data: _times(data, float("nan"))),
    "vector infinite": _raw("vectors.f32", lambda data: _times(data, float("inf"))),
    "vectors too few": _raw("vectors.f32", lambda data: data[:-32]),
    "vectors too many": _raw("vectors.f32", lambda data: data + bytes(32)),
    "vectors without embedder": lambda members: sealed(members, embedder=None),
    "dimension 0": lambda members: sealed(members, embedder={"fingerprint": "x", "dimension": 0}),
    "dimension of others": lambda members: sealed(members, embedder={"fingerprint": "x", "dimension": 4}),
    "audit action": _line("audit.jsonl", '"action":"add"', '"action":"bad"'),
    "audit row gone": _raw("audit.jsonl", lambda data: data[data.index(b"\n") + 1 :]),
    "audit hash": _line("audit.jsonl", '"hash":"', '"hash":"zz'),
    "tombstone twice": _raw("tombstones.jsonl", lambda data: data + data),
    "tombstone hash": _line("tombstones.jsonl", '"turn":"', '"turn":"0'),
    "call twice": _raw("calls.jsonl", lambda data: data + data),
    "call digest": _line("calls.jsonl", '"digest":"0102"', '"digest":"012"'),
    "counts as text": lambda members: sealed(members, counts="many"),
    "naive moment": lambda members: sealed(members, created_at="2026-01-01T00:00:00"),
    "kinds unknown": lambda members: sealed(members, kinds=["lie"]),
    "manifest field": lambda members: sealed(members, owner="eve"),
    "manifest seal": lambda members: {**members, MANIFEST: members[MANIFEST].replace(b'"ann"', b'"eve"')},
    "manifest deep": lambda members: {**members, MANIFEST: b"[" * 100_000},
    "manifest empty": lambda members: {**members, MANIFEST: b""},
}


@pytest.mark.parametrize("case", WRONG)
def test_rows_that_are_not_what_they_must_be(members: Members, tmp_path: Path, case: str) -> None:
    """Every wrong type, value, order, reference or count is damage, though all checksums are right."""
    changed = WRONG[case](members)
    folder = as_folder(changed, tmp_path / "evil")
    error = refused(folder, tmp_path / "l")
    assert isinstance(error, ArchiveDamaged), case
    assert ("checksum" in str(error)) == (case == "manifest seal"), error
    path = tmp_path / "evil.tar.zst"
    path.write_bytes(zipped(tarred(first_manifest(changed))))
    assert isinstance(refused(path, tmp_path / "l"), ArchiveDamaged), case


def test_errors_do_not_show_memories(members: Members, tmp_path: Path) -> None:
    """What a refused line holds stays out of the message."""
    folder = as_folder(
        _line("items.jsonl", '"text":"I moved', '"x":1,"text":"I moved')(members), tmp_path / "evil"
    )
    error = refused(folder, tmp_path / "l")
    assert "items.jsonl line 1" in str(error)
    assert "Lisbon" not in str(error)
    assert "Lisbon" not in str(error.__cause__)


def test_a_folder_in_use_is_not_loaded_into(cube: CubeFile, members: Members, tmp_path: Path) -> None:
    """A cube is loaded into a new or empty folder only."""
    sound = as_folder(members, tmp_path / "sound")
    for folder in (tmp_path / "cube", tmp_path / "sound" / MANIFEST):
        with pytest.raises(BadRoot, match="new folder"):
            load(sound, folder, "cube-b", CLOCK, principal="user:bob")
    with pytest.raises(StoreError):
        load(sound, tmp_path / "no" / "such", "cube-b", CLOCK, principal="user:bob")
    (tmp_path / "ready").mkdir()
    load(sound, tmp_path / "ready", "cube-b", CLOCK, principal="user:bob")


def test_a_load_that_is_stopped_leaves_an_empty_folder(members: Members, tmp_path: Path) -> None:
    """An error in the middle of a load leaves what was there: no folder, or an empty one."""

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    sound = as_folder(members, tmp_path / "sound")
    (tmp_path / "ready").mkdir()
    for folder in (tmp_path / "ready", tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            load(sound, folder, "cube-b", CLOCK, principal="user:bob", progress=fail)
    assert not list((tmp_path / "ready").iterdir())
    assert not (tmp_path / "new").exists()
