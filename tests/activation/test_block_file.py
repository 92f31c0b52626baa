"""Blocks in files: the same block comes back, or a miss that says why; nothing else ever happens."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
import struct
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from memos_engine.activation import manifest as manifest_module
from memos_engine.activation.block_file import read_manifest, save_block
from memos_engine.activation.codec import SCHEMES, Scheme
from memos_engine.activation.manifest import OPENING, Manifest, Miss
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from memos_engine.errors import BadInput, StoreError, StoreFull
from memos_engine.models.local import LocalModel
from tests.activation import tiny
from tests.activation.blocks import ABOUT, KEY, KINDS, TOKENS, block, load, signed


def loaded(path: Path, **how: Any) -> KVBlock:
    """Load what must be a hit."""
    found = load(path, **how)
    assert isinstance(found, KVBlock), found
    return found


def why(path: Path, **how: Any) -> str:
    """The reason of what must be a miss, after a look at the manifest, which must not raise either."""
    read_manifest(path)
    read_manifest(path, trusted=False)
    found = load(path, **how)
    assert isinstance(found, Miss), "it was loaded"
    assert found.detail
    return found.why


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place in a folder that is not there yet."""
    return tmp_path / "ab" / "entry.safetensors"


# --- round trips ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("behind", [(), (1, 2, 3)])
def test_a_block_comes_back(path: Path, scheme: Scheme, behind: tuple[int, ...]) -> None:
    """Ids, the tokens before, key, shapes and tensors are those that were saved."""
    given = block(behind=behind)
    size = save_block(path, given, scheme=scheme, about=ABOUT, licence="Apache-2.0")
    assert size == path.stat().st_size
    found = loaded(path, about=ABOUT)
    assert (found.ids, found.behind, found.key) == (given.ids, behind, KEY)
    allowed = {"float32": 0.0, "bfloat16": 0.02, "int8": 0.02}[scheme]
    for ours, theirs in zip(found.layers, given.layers, strict=True):
        assert ours.keys.shape == theirs.keys.shape
        assert (ours.keys - theirs.keys).abs().max() <= allowed
        assert (ours.values - theirs.values).abs().max() <= allowed
    told = read_manifest(path, trusted=False)
    assert isinstance(told, Manifest)
    assert (told.about, told.licence, told.scheme) == (ABOUT, "Apache-2.0", scheme)


@pytest.mark.parametrize("name", [name for name in tiny.CONFIGURATIONS if name != "qwen3_next"])
def test_a_saved_prefix_is_exact(path: Path, name: str) -> None:
    """From a saved and loaded block every architecture gives the logits and words of full prefill."""
    model, ids = LocalModel(tiny.network(name), tokenizer=tiny.tokenizer()), tiny.ids(60)
    save_block(path, model.block(ids[:40]), scheme="float32")
    found = loaded(path, key=model.key, kinds=model.capabilities.layers)
    past = Prefix(found.ids, found.layers)
    first = model.logits(ids[40:], past)
    assert (first - model.logits(ids)[40:]).abs().max() <= 1e-4
    for _ in range(99):
        model.complete(ids[40:44], past, max_new_tokens=1)
    assert torch.equal(model.logits(ids[40:], past), first)
    said = model.complete(ids[40:], past, max_new_tokens=16)
    assert said.ids == model.complete(ids, max_new_tokens=16).ids
    assert len(set(said.ids)) > 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_tools_can_read_it(path: Path, scheme: Scheme) -> None:
    """The file is a safetensors file like any other, its tensors are aligned, and its manifest is JSON."""
    given = block()
    save_block(path, given, scheme=scheme, about=ABOUT)
    tensors = safetensors.torch.load_file(path)
    if scheme == "float32":
        assert torch.equal(tensors["L1.k"], given.layers[1].keys)
        assert torch.equal(tensors["L1.v"], given.layers[1].values)
    header = path.read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert (8 + size) % 64 == 0
    table = json.loads(header[8 : 8 + size])
    assert json.loads(table.pop("__metadata__")["memos_block"])["about"] == ABOUT
    widths = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
    assert all(entry["data_offsets"][0] % widths[entry["dtype"]] == 0 for entry in table.values())


def test_what_is_saved_need_not_be_contiguous(path: Path) -> None:
    """Views are written as what they show."""
    given = block()
    seen = tuple(
        LayerKV(one.keys.transpose(0, 1).contiguous().transpose(0, 1), one.values.clone())
        for one in given.layers
    )
    save_block(path, replace(given, layers=seen), scheme="float32")
    assert torch.equal(loaded(path).layers[0].keys, given.layers[0].keys)


def test_a_model_in_half_precision_gets_its_dtype(path: Path) -> None:
    """A bfloat16 model's block comes back in bfloat16, to the bit where it was stored so."""
    key = replace(KEY, dtype="bfloat16")
    layers = tuple(LayerKV(one.keys.bfloat16(), one.values.bfloat16()) for one in block().layers)
    given = replace(block(), key=key, layers=layers)
    for scheme in ("bfloat16", "float32"):
        save_block(path, given, scheme=scheme)
        found = loaded(path, key=key, dtype=torch.bfloat16)
        assert torch.equal(found.layers[0].keys, layers[0].keys)
    save_block(path, given)
    assert loaded(path, key=key, dtype=torch.bfloat16).layers[0].keys.dtype == torch.bfloat16


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_load_maps_the_file(path: Path) -> None:
    """Tensors in the model's dtype are the mapped file, not a copy; writing to one leaves the file."""
    save_block(path, block(), scheme="float32")
    before = path.read_bytes()
    found = loaded(path)
    assert str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    found.layers[0].keys.zero_()
    assert path.read_bytes() == before
    del found
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_int8_falls_back_where_it_cannot_hold(path: Path) -> None:
    """Numbers beyond the scales are stored as bfloat16, and the file says so."""
    given = block()
    given.layers[0].values[0, 3, 3] = 1e9
    save_block(path, given)
    told = read_manifest(path)
    assert isinstance(told, Manifest)
    assert told.scheme == "bfloat16"
    assert loaded(path).layers[0].values[0, 3, 3] == pytest.approx(1e9, rel=0.01)


def test_only_its_owner_can_read_it(path: Path) -> None:
    """Keys and values tell the text."""
    save_block(path, block())
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- writes ---


@pytest.mark.parametrize(
    ("given", "how", "says"),
    [
        (block(), {"scheme": "int4"}, "int4"),
        (block(), {"about": {"version": 3}}, "strings"),
        (replace(block(), ids=()), {}, "0 tokens"),
        (replace(block(), layers=()), {}, "0 layers"),
        (replace(block(), ids=(1, 2)), {}, "shape"),
        (
            replace(
                block(), layers=(LayerKV(torch.full((2, TOKENS, 8), torch.nan), torch.ones(2, TOKENS, 8)),)
            ),
            {},
            "NaN",
        ),
    ],
    ids=["scheme", "about", "no ids", "no layers", "shapes", "NaN"],
)
def test_what_cannot_be_kept_is_refused(path: Path, given: KVBlock, how: dict[str, Any], says: str) -> None:
    """A block that could not be used is not written."""
    with pytest.raises(BadInput, match=says):
        save_block(path, given, **how)
    assert not path.exists()


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreError)])
def test_a_write_that_fails_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    """A full or failing disk raises ours; the old block stands and no other file is left."""
    save_block(path, block(), scheme="float32")

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error):
        save_block(path, block(seed=1), scheme="float32")
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert torch.equal(loaded(path).layers[0].keys, block().layers[0].keys)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be is an error of ours."""
    (tmp_path / "ab").write_text("a file")
    with pytest.raises(StoreError):
        save_block(tmp_path / "ab" / "entry.safetensors", block())


def test_readers_see_whole_blocks_only(path: Path) -> None:
    """While four threads replace a block, every load is one of them, whole."""
    blocks = [block(seed=seed) for seed in range(4)]
    save_block(path, blocks[0], scheme="float32")

    def write(given: KVBlock) -> None:
        for _ in range(15):
            save_block(path, given, scheme="float32")

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, given) for given in blocks]
        while not all(one.done() for one in writes):
            found = loaded(path)
            origin = next(one for one in blocks if one.ids == found.ids)
            assert torch.equal(found.layers[1].values, origin.layers[1].values)
        for one in writes:
            one.result()
    assert len(list(path.parent.iterdir())) == 1


# --- misses ---


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"key": replace(KEY, model="x" * 64)}, "other_model"),
        ({"key": replace(KEY, tokenizer="x" * 64)}, "other_tokenizer"),
        ({"key": replace(KEY, template="x" * 64)}, "other_template"),
        ({"key": replace(KEY, rope="x" * 64)}, "other_rope"),
        ({"key": replace(KEY, adapter="x" * 64)}, "other_adapter"),
        ({"key": replace(KEY, dtype="bfloat16")}, "other_dtype"),
        ({"kinds": KINDS[:1]}, "other_layers"),
        ({"kinds": (replace(KINDS[0], kv_heads=4), KINDS[1])}, "other_layers"),
        ({"about": {**ABOUT, "version": "4"}}, "stale"),
        ({"about": {"salt": "bob"}}, "stale"),
        ({"about": {"never said": ""}}, "stale"),
        ({"key": replace(KEY, rope="x" * 64, dtype="bfloat16"), "about": {"salt": "bob"}}, "other_rope"),
    ],
    ids=str,
)
def test_a_foreign_block_says_what_is_other(path: Path, how: dict[str, Any], expected: str) -> None:
    """Each fingerprint, the layers and what the caller expects are told apart, in their order."""
    save_block(path, block(), about=ABOUT)
    assert why(path, **how) == expected


def test_an_adapter_that_was_there_is_missed(path: Path) -> None:
    """A block made with an adapter is none for the plain model."""
    save_block(path, replace(block(), key=replace(KEY, adapter="a" * 64)))
    assert why(path) == "other_adapter"


def test_a_newer_format_is_told_from_a_damaged_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a later version is a miss of its own kind, even if everything else is other, too."""
    monkeypatch.setattr(manifest_module, "FORMAT", 2)
    save_block(path, block())
    monkeypatch.undo()
    assert why(path) == "newer"
    assert why(path, key=replace(KEY, model="x" * 64)) == "newer"


def test_the_checksum_is_left_out_on_request(path: Path) -> None:
    """A file that was checked before is not read again: only then is a changed number not seen."""
    save_block(path, block(), scheme="float32")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert why(path) == "damaged"
    assert isinstance(load(path, trusted=True), KVBlock)
    assert isinstance(read_manifest(path), Manifest)
    assert isinstance(read_manifest(path, trusted=False), Miss)


def not_blocks(folder: Path) -> Mapping[str, tuple[Callable[[Path], object], str]]:
    """Ways to put something else where a block should be, and what a load calls it."""
    return {
        "nothing": (lambda path: None, "absent"),
        "a folder": (lambda path: path.mkdir(), "foreign"),
        "an empty file": (lambda path: path.write_bytes(b""), "damaged"),
        "a text": (lambda path: path.write_text("hello " * 100), "foreign"),
        "zeros": (lambda path: path.write_bytes(bytes(5000)), "foreign"),
        "a pickle": (lambda path: path.write_bytes(pickle.dumps([list(range(500))])), "foreign"),
        "other tensors": (lambda path: safetensors.torch.save_file({"a": torch.ones(99)}, path), "foreign"),
        "a huge header": (lambda path: path.write_bytes(struct.pack("<Q", 1 << 60) + OPENING * 9), "foreign"),
        "a header only": (
            lambda path: path.write_bytes(struct.pack("<Q", 100) + OPENING + b"x" * 71),
            "damaged",
        ),
        "a dangling link": (lambda path: path.symlink_to(folder / "gone"), "absent"),
        "a link to itself": (lambda path: path.symlink_to(path), "unreadable"),
        "a pipe": (os.mkfifo, "foreign"),
        "deep brackets": (
            lambda path: path.write_bytes(signed(OPENING + b"0" * 32 + b'","a":' + b"[" * 100_000)),
            "damaged",
        ),
    }


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
@pytest.mark.parametrize("case", not_blocks(Path()))
def test_what_is_no_block_is_missed(tmp_path: Path, case: str) -> None:
    """Whatever has the name of a block: a miss, and no wait."""
    make, expected = not_blocks(tmp_path)[case]
    path = tmp_path / "entry.safetensors"
    make(path)
    assert why(path) == expected


def test_a_name_that_is_none_is_missed() -> None:
    """A path that no system takes is a miss as well."""
    assert why(Path("a\0b")) == "unreadable"
    assert why(Path("x" * 5000)) == "unreadable"
