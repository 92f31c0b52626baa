"""10,000 mutated cube files: each is refused by a typed error or loads as what it says, and nothing else.

A quarter are mutated as packed bytes, a quarter as members whose checksums then are wrong. In the other
half the manifest is made right again, so that what lies behind the checksums is reached: once after
mutations of bytes, once of values and rows. Case N is always the same: `Lab.case(N)` shows it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from memos_engine.errors import ArchiveError
from memos_engine.store.archive import dump, load, read_manifest
from memos_engine.store.manifest import AUDIT, CALLS, EDGES, ITEMS, MANIFEST, MEMBERS, VECTORS, VERSIONS
from memos_engine.store.sqlite import CubeFile
from tests.store.archives import (
    CLOCK,
    Content,
    content,
    counted,
    first_manifest,
    members_of,
    small_cube,
    tarred,
    verified,
    zipped,
)

CASES = 10_000
BLOCK = 500
KEYS: dict[str, tuple[str, ...]] = {
    VERSIONS: ("item", "version"), EDGES: ("source", "kind", "target"), CALLS: ("key",),
}  # fmt: skip
"""Members whose order is the database's: by what their rows are told apart."""


class Lab:
    """A cube file to mutate, in memory and on the fastest disk there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cube = small_cube(folder / "cube")
        self.content = content(cube)
        self.members = first_manifest(members_of(dump(cube, folder / "dumped", name="ann", clock=CLOCK)))
        self.packed = dump(cube, folder / "dumped.tar.zst", name="ann", clock=CLOCK).read_bytes()
        cube.close()

    def case(self, number: int) -> tuple[bool, bytes | dict[str, bytes]]:
        """Whether the manifest was made right again, and the packed file or the members of case `number`."""
        rng = random.Random(number)
        if number % 4 == 0:
            return False, mutated(rng, self.packed)
        members = dict(self.members)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            name = rng.choice(tuple(members))
            change = reshaped if number % 4 == 3 and name != VECTORS else mutated
            members[name] = change(rng, members[name])
        return (False, members) if number % 4 == 1 else (True, corrected(members))

    def write(self, number: int, found: bytes | dict[str, bytes]) -> Path:
        """Put a case on the disk: a file as it is, members as a folder or re-packed."""
        path = self.folder / "case"
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        if isinstance(found, dict) and number % 8 < 4:
            path.mkdir()
            for name, data in found.items():
                (path / name).write_bytes(data)
        else:
            path.write_bytes(zipped(tarred(found)) if isinstance(found, dict) else found)
        return path


def mutated(rng: random.Random, data: bytes) -> bytes:
    """`data` with bits flipped, cut off, a span taken out, doubled, moved or filled, or bytes put in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        size = min(rng.choice((1, 2, 4, 16, 64, 512)), len(changed) - at)
        match rng.randrange(8):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                del changed[at:]
            case 3:
                changed[at:at] = rng.randbytes(rng.choice((1, 2, 8, 600)))
            case 4:
                changed[at:at] = changed[at : at + size]
            case 5:
                del changed[at : at + size]
            case 6:
                changed[at : at + size] = rng.choice((b"\0", b"\xff", b"0", b"9", b'"', b"{", b"\n")) * size
            case _:
                to = rng.randrange(len(changed) + 1)
                changed[to : to + size] = changed[at : at + size]
    return bytes(changed)


STRANGE: tuple[Any, ...] = (
    None, True, 0, 1, 2, -1, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, "", "e0", "e1", "f", "c", "x",
    "\0", "\x1f", "episode", "concept", "archived", "session", "next", "٣", "🌞", "\ud800", "../x",
    [], ["a"], {}, {"a": None}, [[[]]],
)  # fmt: skip


def reshaped(rng: random.Random, data: bytes) -> bytes:
    """Lines of JSON with values replaced or exchanged, fields dropped, rows doubled, dropped or exchanged."""
    rows: list[Any] = [json.loads(line) for line in data.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not rows:
            break
        one, other = rng.choice(rows), rng.choice(rows)
        inner = rng.choice([one, *(value for value in one.values() if isinstance(value, dict) and value)])
        field = rng.choice(tuple(inner) or ("x",))
        match rng.randrange(9):
            case 0 | 1 | 2:
                inner[field] = deepcopy(rng.choice(STRANGE))
            case 3:
                inner[field] = deepcopy(rng.choice(tuple(other.values())))
            case 4 if field in one and field in other:
                one[field], other[field] = other[field], one[field]
            case 5 if isinstance(inner.get(field), int | float):
                inner[field] += rng.choice((1, -1, 10**6, -(10**15)))
            case 6:
                rows.insert(rng.randrange(len(rows) + 1), deepcopy(one))
            case 7:
                rows.remove(one)
            case _:
                inner[rng.choice((field + "x", "role", "kind", "value"))] = inner.pop(field, None)
    lines = (
        json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in rows
    )  # another spelling, equal content
    return "".join(lines).encode("utf-8", "surrogatepass")


def corrected(members: dict[str, bytes]) -> dict[str, bytes]:
    """The members under right sizes, checksums and counts, if the manifest still is one."""
    try:
        return counted(members)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return members


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Where the cases are made; in memory where the system has a place for it."""
    memory = "/dev/shm"  # noqa: S108 -- a private folder is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Lab(Path(name))


@pytest.mark.parametrize("start", range(0, CASES, BLOCK))
def test_a_mutated_cube_file_is_refused_or_says_what_it_holds(lab: Lab, start: int) -> None:
    """Each mutation ends in an ArchiveError that leaves nothing behind, or in a cube equal to the file."""
    refused = 0
    for number in range(start, start + BLOCK):
        right, found = lab.case(number)
        path = lab.write(number, found)
        folder = lab.folder / "loaded"
        error = attempted(path, folder)
        if error is not None:
            refused += 1
            assert len(error) < 2_000, number
            assert not folder.exists(), (number, error)
            continue
        try:
            check(lab, folder, path, found if right and isinstance(found, dict) else None, number)
        finally:
            shutil.rmtree(folder)
    assert BLOCK / 3 < refused < BLOCK, "the mutations are too harsh or too mild to test anything"


def attempted(path: Path, folder: Path) -> str | None:
    """Load; the message if it is refused as an archive. Any other error is a fault of ours and passes on."""
    try:
        load(path, folder, "cube-b", CLOCK, principal="user:bob")
    except ArchiveError as exc:
        return str(exc)
    return None


def check(lab: Lab, folder: Path, path: Path, members: dict[str, bytes] | None, number: int) -> None:
    """A cube that was loaded is whole, and holds what its members say, or the original where none were made right."""
    cube = CubeFile(folder, "cube-b", CLOCK)
    try:
        found = content(cube)
        assert verified(found.audit), number
        assert found.audit.pop()[2] == "load", number
        if members is None:
            assert found == lab.content, number
            assert read_manifest(path).name == "ann", number
            return
        again = members_of(
            dump(cube, folder / "again", name=json.loads(members[MANIFEST])["name"], clock=CLOCK)
        )
    finally:
        cube.close()
    for name in MEMBERS:
        assert told(name, again[name]) == told(name, members[name]), (number, name)
    assert_integral(found, number)


def told(name: str, data: bytes) -> Any:
    """What a member says, whatever its spelling."""
    if name == VECTORS:
        return data
    rows = [json.loads(line, parse_int=_number) for line in data.splitlines()]
    if name == AUDIT:
        rows = [row for row in rows if row["action"] != "load"]
    for row in rows if name == ITEMS else [row["state"] for row in rows if name == VERSIONS]:
        if row.get("sources"):
            row["sources"] = [{k: v for k, v in source.items() if v is not None} for source in row["sources"]]
    if name in KEYS:
        rows.sort(key=lambda row: [row[key] for key in KEYS[name]])
    return rows


def _number(digits: str) -> float:
    """A column of real numbers rounds an integer beyond 2^53, so all of them are rounded."""
    return int(digits) if len(digits) < 16 else float(digits)


def assert_integral(found: Content, number: int) -> None:
    """Words and vectors belong to items that are in the index, and to all words of them."""
    indexed = {id_ for id_, (_, flag) in found.hidden.items() if flag}
    assert {item for item, _, _ in found.vectors} <= indexed, number
    assert max((documents for _, documents, _ in found.words), default=0) <= len(indexed), number
