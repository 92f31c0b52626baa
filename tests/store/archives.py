"""Cubes to dump, what is compared of them, and cube files crafted by hand: sound, mutated, or hostile."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import zstandard

from memos_engine.errors import ArchiveError
from memos_engine.items import Edge, Filter, ItemVersion, MemoryItem, Source, State
from memos_engine.ports import Entry
from memos_engine.store.archive import load
from memos_engine.store.manifest import MANIFEST, MEMBERS, VECTORS
from memos_engine.store.rows import View, dumps
from memos_engine.store.sqlite import CubeFile, chain
from memos_engine.store.writing import CubeWriter
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

EVERYTHING = Filter(states=get_args(State))
ROOT = View(principal=None, session=None, now=-sys.maxsize)
"""Sees all, what has expired included."""
EMBEDDER = HashEmbedder(8)
CLOCK = FrozenClock()


def write(cube: CubeFile, work: Any, action: str = "add") -> Any:
    """Run one audited transaction."""
    return cube.write(
        work, principal="user:ann", action=action, detail=lambda result: {"n": str(result)[:40]}
    )


def opened(folder: Path, cube: str = "cube-a") -> CubeFile:
    """Open a cube's database in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    return CubeFile(folder, cube, CLOCK)


def item(id_: str, text: str, **fields: Any) -> MemoryItem:
    """An item as the engine would make it."""
    now = CLOCK()
    return MemoryItem(
        **{"kind": "note", "created_at": now, "updated_at": now, **fields}, id=id_, cube="cube-a", text=text
    )


def small_cube(folder: Path) -> CubeFile:
    """A cube with a little of everything: turns, nodes, a key, versions, edges, vectors, a tombstone, a call."""
    cube = opened(folder)
    texts = ["I moved to Lisbon in May.", "明天我们去东京吃寿司", "naïve café 🌞", "to be forgotten", "Ann"]
    vectors = EMBEDDER.embed(texts)

    def fill(writer: CubeWriter) -> int:
        embedder = writer.use_embedder(EMBEDDER.fingerprint, 8)
        entries = [
            Entry(
                item(f"e{n}", text, kind="episode", role="user", speaker="Ann", thread="t", event_at=CLOCK(),
                     sources=(Source(message_id=f"m{n}", thread="t"),)),
                {"turn": vectors[n], "window": vectors[-n]}, f"key{n}",
            )
            for n, text in enumerate(texts[:4])
        ]  # fmt: skip
        entries += [
            Entry(item("c", "Ann", kind="concept", origin="organise")),
            Entry(item("f", "Ann lives in Lisbon", kind="fact", tags=("home", "城市"), confidence=0.5, priority=-1.5,
                       sources=(Source(document="d", url="u", span=(0, 4)), Source(message_id="m0", thread="t")))),
            Entry(item("k", "", namespace=("users", "ann"), key="profile", value={"a": [1, 2.5, None, {"b": "c"}]}),
                  searchable=False),
        ]  # fmt: skip
        refs = writer.add(entries, embedder)
        writer.link([Edge("e0", "next", "e1"), Edge("e1", "next", "e2"), Edge("e0", "mentions", "c", 0.25)])
        writer.link([Edge("f", "derived_from", "e0"), Edge("e2", "next", "e3")])
        writer.remember_call("call-1", b"\x01\x02", '{"episodes":["e0"]}')
        return refs[0]

    write(cube, fill)
    update(cube, "f", "Ann lives in Porto", tags=())
    update(cube, "f", "Ann lives in Faro", state="archived")
    with cube.read() as reader:
        n = reader.ref("e3", ROOT)
    assert n is not None
    write(cube, lambda writer: writer.erase([n]), "forget")
    return cube


def update(cube: CubeFile, id_: str, text: str, **fields: Any) -> None:
    """Make a new version of an item."""

    def work(writer: CubeWriter) -> None:
        n = writer.ref(id_, ROOT)
        assert n is not None
        old = writer.history(id_, ROOT)[-1].item
        new = replace(old, text=text, version=old.version + 1, **fields)
        writer.replace(
            n, Entry(new, {"turn": EMBEDDER.embed([text])[0]}), writer.use_embedder(EMBEDDER.fingerprint, 8)
        )

    write(cube, work, "update")


@dataclass(frozen=True, slots=True)
class Content:
    """All that a dump must carry, without what belongs to one life of a cube: its id and row numbers."""

    items: list[MemoryItem]
    history: dict[str, list[ItemVersion]]
    hidden: dict[str, tuple[Any, ...]]
    """Columns that no value shows: message key and whether it is searched."""
    edges: list[Edge]
    vectors: list[tuple[str, str, bytes]]
    audit: list[tuple[Any, ...]]
    tombstones: list[tuple[Any, ...]]
    calls: list[tuple[Any, ...]]
    embedder: tuple[str, int] | None
    words: list[tuple[str, int, int]]
    """Documents and places of each word of the keyword index."""


def content(cube: CubeFile) -> Content:
    """Read all of a cube by the questions that the engine asks, and the rest by the back door."""
    with cube.read() as reader:
        query: Callable[[str], Any] = reader.connection.execute
        ids = dict(query("SELECT n, id FROM items").fetchall())
        items = reader.select(EVERYTHING, ROOT, limit=100_000, order="n")
        embedder = reader.embedder()
        names = dict(query("SELECT v, name FROM vectors").fetchall())
        vectors = (
            []
            if embedder is None
            else list(zip(*(part.tolist() for part in reader.vectors(embedder)), strict=True))
        )
        raw = dict(query("SELECT v, data FROM vectors").fetchall())
        return Content(
            items=[_plain(one) for one in items],
            history={
                one.id: [replace(v, item=_plain(v.item)) for v in reader.history(one.id, ROOT)]
                for one in items
            },
            hidden={row[0]: row[1:] for row in query("SELECT id, message_key, indexed FROM items")},
            edges=[Edge(ids[s], kind, ids[t], weight) for s, kind, t, weight in reader.all_edges()],  # type: ignore[arg-type] # -- a column's text
            vectors=[(ids[ref], names[v], raw[v]) for v, ref, _ in vectors],
            audit=query("SELECT at, principal, action, detail, hash FROM audit ORDER BY seq").fetchall(),
            tombstones=query("SELECT id, at, turn FROM tombstones ORDER BY n").fetchall(),
            calls=query("SELECT key, digest, result, at FROM calls ORDER BY key").fetchall(),
            embedder=None if embedder is None else (embedder.fingerprint, embedder.dimension),
            words=query("SELECT term, doc, cnt FROM vocabulary ORDER BY term").fetchall(),
        )


def _plain(one: MemoryItem) -> MemoryItem:
    return replace(one, cube="")


def verified(audit: Iterable[tuple[Any, ...]]) -> bool:
    """Whether the audit rows form an unbroken chain."""
    previous = b""
    for at, principal, action, detail, digest in audit:
        previous = chain(previous, at, principal, action, detail)
        if previous != digest:
            return False
    return True


# Cube files by hand


def members_of(folder: Path) -> dict[str, bytes]:
    """The files of a dump that is a folder, the manifest included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sealed(members: Mapping[str, bytes], **fields: Any) -> dict[str, bytes]:
    """The members with a manifest whose sizes, checksums and own checksum are right; `fields` replace its own."""
    manifest = json.loads(members[MANIFEST])
    manifest["files"] = {
        name: {"size": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}
        for name in MEMBERS
        if name in members
    }
    manifest |= fields
    manifest.pop("sha256")
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return {**members, MANIFEST: dumps(manifest).encode()}


def counted(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """As `sealed`, with the counts of the lines that are there."""
    counts = {
        name.removesuffix(".jsonl"): data.count(b"\n") for name, data in members.items() if name != VECTORS
    }
    counts.pop(MANIFEST)
    return sealed(members, counts=counts)


def tarred(members: Mapping[str, bytes] | Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar of these members, or of these headers with this data behind them."""
    pairs: Iterable[tuple[tarfile.TarInfo, bytes]]
    pairs = (
        ((plain(name, data), data) for name, data in members.items())
        if isinstance(members, Mapping)
        else members
    )
    parts = [info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for info, data in pairs]
    return b"".join(parts) + bytes(1024)


def plain(name: str, data: bytes, **fields: Any) -> tarfile.TarInfo:
    """The tar header of a file, with fields as they should not be."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def zipped(data: bytes, **options: Any) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor(**{"level": 1, "write_checksum": True, **options}).compress(data)


def first_manifest(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members in the order of a dump."""
    return {name: members[name] for name in (MANIFEST, *MEMBERS) if name in members}


def loaded(path: Path, folder: Path, **options: Any) -> Content:
    """Load a cube file and read all of the new cube, its audit row `load` checked and left out."""
    load(path, folder, "cube-b", CLOCK, principal="user:bob", **options)
    cube = CubeFile(folder, "cube-b", CLOCK)
    try:
        found = content(cube)
    finally:
        cube.close()
    assert verified(found.audit)
    assert found.audit.pop()[1:3] == ("user:bob", "load")
    return found


def refused(path: Path, folder: Path, **options: Any) -> ArchiveError:
    """Load a cube file that must be refused; nothing may be left of the attempt."""
    with pytest.raises(ArchiveError) as caught:
        load(path, folder, "cube-b", CLOCK, principal="user:bob", **options)
    assert not folder.exists(), sorted(folder.rglob("*"))
    return caught.value


def as_folder(members: dict[str, bytes], folder: Path) -> Path:
    """Write members as a dump that is a folder."""
    folder.mkdir()
    for name, data in members.items():
        (folder / name).write_bytes(data)
    return folder
