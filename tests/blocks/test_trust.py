"""What a process remembers of files, items and conversations, and what makes it look again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash

from memos_engine import BadInput, BlockInfo, MemCube, MemOS
from memos_engine.activation.manifest import OPENING, SEALED_FROM
from memos_engine.blocks import shelf as shelf_module
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.testing.fakes import HashEmbedder
from tests.blocks.hot import CONTEXT_TOKENS, PacedModel, paced_model
from tests.blocks.kept import file_of, said


def forged(path: Path) -> None:
    """Change the tensors of a file and make its own checksum fit."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start:] = bytes(byte ^ 0x55 for byte in content[start:])
    seal = xxhash.xxh3_128(bytes(content[:8]))
    seal.update(bytes(content[8 + SEALED_FROM :]))
    content[8 + len(OPENING) : 8 + SEALED_FROM] = seal.hexdigest().encode()
    path.write_bytes(content)


@pytest.mark.parametrize("read_before", [False, True])
def test_a_forged_file_is_not_used(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, read_before: bool
) -> None:
    """A file whose own checksum fits, but that is not what was written, is damaged, and its block goes."""
    info = shelf.build(model, said(cube), reason="a test", scheme="float32")
    if read_before:
        assert info.id in shelf.fetch(model, [info])[0]
        shelf.tiers.drop_cube(cube.id)
    forged(file_of(shelf, info.id))
    found, misses = shelf.fetch(model, [info])
    assert found == {}
    assert misses[info.id].why == "damaged"
    assert shelf.blocks() == []


def test_a_file_that_was_right_is_not_hashed_again(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal is compared at the first load; a file that is touched since is looked at again."""
    info = shelf.build(model, said(cube), reason="a test")
    hashed: list[Path] = []
    seal_of = shelf_module.seal_of  # type: ignore[attr-defined] # -- as the module under test calls it

    def counted(path: Path) -> str:
        hashed.append(path)
        return str(seal_of(path))

    monkeypatch.setattr(shelf_module, "seal_of", counted)
    for _ in range(3):
        assert info.id in shelf.fetch(model, [info])[0]
        shelf.tiers.drop_cube(cube.id)
    assert len(hashed) == 1
    os.utime(file_of(shelf, info.id), (1, 1))
    assert info.id in shelf.fetch(model, [info])[0]
    assert len(hashed) == 2


def test_what_is_remembered_of_blocks_is_bounded(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is remembered of blocks that were dropped here, and only so much of those that went elsewhere."""
    made: list[BlockInfo] = []
    for n in range(3):
        info = shelf.build(model, said(cube, thread=f"t{n}", count=1), reason="a test")
        shelf.fetch(model, [info])
        cube.activation.drop(info.id)
    assert (len(shelf._fresh), len(shelf._sealed)) == (0, 0)
    monkeypatch.setattr(shelf_module, "FRESH_MAX", 2)
    for n in range(6):
        made.append(shelf.build(model, said(cube, thread=f"u{n}", count=1), reason="a test"))
        assert not shelf.fetch(model, [made[-1]])[1]
        assert len(shelf._fresh) <= 3
        assert len(shelf._sealed) <= 3
    assert set(shelf.fetch(model, made)[0]) == {info.id for info in made}


def test_an_entry_taken_out_of_search_takes_its_block_along(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A block that holds an entry which is put again with index=False is a miss."""
    cube.kv.put(("n",), "k", {"t": "the harbour of Lisbon"})
    (entry,) = [item.id for item in cube.list(limit=9) if item.key is not None]
    info = shelf.build(model, [entry], reason="a test")
    assert info.id in shelf.fetch(model, [info])[0]
    cube.kv.put(("n",), "k", {"t": "the harbour of Lisbon"}, index=False)
    assert shelf.fetch(model, [info])[0] == {}


def test_conversations_go_with_a_forget_elsewhere(
    tmp_path: Path, cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """What another opened root forgot takes the conversations of that cube along here; other writes do not."""
    ids = said(cube)
    prefix = model.prefill(model.encode("what we said"))
    moment = shelf.prefixes.moment(cube.id)
    assert shelf.prefixes.keep(prefix, model.key, cube=cube.id, principal="root", moment=moment)
    assert shelf.prefixes.keep(prefix, model.key, cube="another", principal="root")
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as other:
        other.cube("alice").update(ids[0], text="another")
        assert len(shelf.prefixes) == 2
        other.cube("alice").forget(ids[0])
        assert len(shelf.tiers.prefixes) == 2, "nobody has looked yet"
        assert len(shelf.prefixes) == 1
        assert not shelf.prefixes.keep(prefix, model.key, cube=cube.id, principal="root", moment=moment)
        moment = shelf.prefixes.moment(cube.id)
        assert shelf.prefixes.keep(prefix, model.key, cube=cube.id, principal="root", moment=moment)
        assert len(shelf.prefixes) == 2
        other.cube("alice").forget(ids[1])
        again = ActivationShelf(shelf.text, shelf.tiers, shelf.budgets)
        assert len(again.prefixes) == 1, "a new shelf goes on where the old one was"


class CountingModel(PacedModel):
    """A model that counts the characters it tokenises."""

    chars = 0

    def encode(self, text: str, *, special: bool = False, plain: bool = False) -> tuple[int, ...]:
        """Count, then encode."""
        self.chars += len(text)
        return super().encode(text, special=special, plain=plain)


def test_a_text_far_too_long_is_refused_by_its_beginning(cube: MemCube, shelf: ActivationShelf) -> None:
    """Of a text that is many times what the model reads, only a beginning is tokenised."""
    whole = paced_model()
    model = CountingModel(whole.network, tokenizer=whole.tokenizer)
    long = cube.add("word of the harbour " * 30_000)
    model.chars = 0
    with pytest.raises(BadInput, match=f"{CONTEXT_TOKENS:,}"):
        shelf.build(model, [long.id], reason="a test")
    assert model.chars < 100_000
