"""Block files that are damaged at random, and forged ones: always a clean miss, never an exception."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memos_engine.activation.block_file import read_manifest, save_block
from memos_engine.activation.codec import SCHEMES
from memos_engine.activation.manifest import OPENING, Miss
from memos_engine.activation.values import KVBlock
from tests.activation.blocks import ABOUT, KINDS, block, load, signed

MUTATIONS = 12_000
RESIGNED = 3_000

Change = Callable[[bytearray, random.Random], None]


def place(data: bytearray, chance: random.Random) -> int:
    """Somewhere in a file, the header as often as the tensors."""
    until = 8 + int.from_bytes(data[:8], "little") if chance.random() < 0.5 else len(data)
    return chance.randrange(max(1, min(until, len(data))))


def flip(data: bytearray, chance: random.Random) -> None:
    """Turn one bit."""
    data[place(data, chance)] ^= 1 << chance.randrange(8)


def put(data: bytearray, chance: random.Random) -> None:
    """Write a few random bytes over others."""
    at = place(data, chance)
    data[at : at + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(1, 9))


def cut(data: bytearray, chance: random.Random) -> None:
    """Lose the end."""
    del data[place(data, chance) :]


def drop(data: bytearray, chance: random.Random) -> None:
    """Lose some bytes within."""
    at = place(data, chance)
    del data[at : at + chance.randrange(1, 200)]


def grow(data: bytearray, chance: random.Random) -> None:
    """Gain some bytes at the end."""
    data += chance.randbytes(chance.randrange(1, 200))


def blank(data: bytearray, chance: random.Random) -> None:
    """Lose a page to zeros."""
    at, size = place(data, chance), chance.randrange(1, 600)
    data[at : at + size] = bytes(len(data[at : at + size]))


def swap(data: bytearray, chance: random.Random) -> None:
    """Let two ranges change places."""
    one, other, size = place(data, chance), place(data, chance), chance.randrange(1, 64)
    if abs(one - other) >= size and max(one, other) + size <= len(data):
        data[one : one + size], data[other : other + size] = (
            data[other : other + size],
            data[one : one + size],
        )


def resize(data: bytearray, chance: random.Random) -> None:
    """Lie about the length of the header."""
    data[:8] = chance.choice([chance.randrange(1 << 64), chance.randrange(1 << 16), 0]).to_bytes(8, "little")


def repeat(data: bytearray, chance: random.Random) -> None:
    """Say something twice."""
    at = place(data, chance)
    data[at:at] = data[at : at + chance.randrange(1, 200)]


DAMAGES: tuple[Change, ...] = (flip, put, cut, drop, grow, blank, swap, resize, repeat)


def originals(path: Path) -> list[bytes]:
    """Files of two blocks in every scheme, written by way of `path`."""
    files = []
    for given in (block(20), block(20, behind=(), seed=1)):
        for scheme in SCHEMES:
            save_block(path, given, scheme=scheme, about=ABOUT)
            files.append(path.read_bytes())
    return files


def test_any_damage_is_a_clean_miss(tmp_path: Path) -> None:
    """However a file is damaged, a load is a miss; only a file that is whole gives its block."""
    chance = random.Random(0)
    path = tmp_path / "entry.safetensors"
    files = originals(path)
    counts: dict[str, int] = {}
    for _ in range(MUTATIONS):
        original = chance.choice(files)
        data = bytearray(original)
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            if len(data) > 8:
                chance.choice(DAMAGES)(data, chance)
        path.unlink()
        path.write_bytes(data)
        found = load(path)
        if data == original:
            assert isinstance(found, KVBlock)
            continue
        assert isinstance(found, Miss), (found.ids, len(data))
        counts[found.why] = counts.get(found.why, 0) + 1
    assert sum(counts.values()) >= 10_000
    assert counts["damaged"] > 1000
    assert counts["foreign"] > 1000


def altered(told: Any, chance: random.Random) -> Any:
    """JSON with one value, somewhere, made another."""
    if isinstance(told, dict) and told and chance.random() < 0.8:
        name = chance.choice(list(told))
        if chance.random() < 0.15:
            return {key: value for key, value in told.items() if key != name}
        return {**told, name: altered(told[name], chance)}
    if isinstance(told, list) and told and chance.random() < 0.8:
        at = chance.randrange(len(told))
        return [*told[:at], altered(told[at], chance), *told[at + 1 :]]
    odd: list[Any] = [
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**70,
        0.5,
        1e400,
        "",
        "x",
        "int8",
        "bfloat16",
        [],
        {},
        [1, 2, 3],
    ]
    return chance.choice([*odd, [told], [told, told], {"a": told}])


def test_a_forged_file_never_raises(tmp_path: Path) -> None:
    """A manifest or table that lies under a right checksum is a miss, or loads as what the table really holds."""
    chance = random.Random(1)
    path = tmp_path / "entry.safetensors"
    files = originals(path)
    hits = 0
    for _ in range(RESIGNED):
        original = chance.choice(files)
        start = 8 + int.from_bytes(original[:8], "little")
        data = original[start:]
        table = json.loads(original[8:start])
        told = json.loads(table.pop("__metadata__")["memos_block"])
        lie = chance.choice(["manifest", "manifest", "table", "length"])
        believed = {**table}
        if lie == "manifest":
            told = altered(told, chance)
        elif lie == "table":
            table = altered(table, chance)
        else:
            data = chance.choice(
                [data[: chance.randrange(len(data))], data + chance.randbytes(chance.randrange(1, 99))]
            )
        body = json.dumps({"memos_block": json.dumps(told)}).encode()[1:]
        header = OPENING + b"0" * 32 + b'",' + body + b"," + json.dumps(table).encode()[1:]
        path.write_bytes(signed(header, data))
        found = load(path, about=ABOUT)
        read_manifest(path)
        if isinstance(found, KVBlock):
            hits += 1
            assert table == believed
            assert lie != "length"
            assert len(found.layers) == len(KINDS)
            assert all(one.keys.shape == (2, len(found.ids), 8) for one in found.layers)
    assert hits < RESIGNED / 3
