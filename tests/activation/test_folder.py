"""The file of a block is bound to its cube, its id and its passage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch

from memos_engine.activation.codec import Scheme
from memos_engine.activation.folder import Bound, load, planned_bytes, save
from memos_engine.activation.manifest import Miss
from memos_engine.activation.values import KVBlock
from memos_engine.models.local import LocalModel
from tests.activation import tiny

BOUND = Bound("cube", "block", "passage")


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """A tiny model."""
    return LocalModel(tiny.network(), tokenizer=tiny.tokenizer())


@pytest.mark.parametrize("scheme", get_args(Scheme))
@pytest.mark.parametrize("behind", [(), (256, 7)])
def test_the_bytes_are_known_beforehand(
    tmp_path: Path, model: LocalModel, scheme: Scheme, behind: tuple[int, ...]
) -> None:
    """What a file will take is told before anything is encoded, to the byte."""
    ids = tiny.ids(70)
    planned = planned_bytes(model, ids, behind, BOUND, scheme=scheme)
    path = tmp_path / "b"
    assert save(path, model.block(ids, behind=behind), BOUND, scheme=scheme) == planned
    assert path.stat().st_size == planned


def test_what_was_saved_is_loaded(tmp_path: Path, model: LocalModel) -> None:
    """A block comes back as it was, in main memory and the model's dtype."""
    made = model.block(tiny.ids(30), behind=(256,))
    save(tmp_path / "b", made, BOUND, scheme="float32")
    found = load(tmp_path / "b", model, BOUND)
    assert isinstance(found, KVBlock)
    assert (found.ids, found.behind, found.key) == (made.ids, made.behind, made.key)
    for was, now in zip(made.layers, found.layers, strict=True):
        assert torch.equal(was.keys, now.keys)
        assert torch.equal(was.values, now.values)


@pytest.mark.parametrize("field", ["cube", "block", "passage"])
def test_a_file_of_another_place_is_a_miss(tmp_path: Path, model: LocalModel, field: str) -> None:
    """A file that belongs to another cube, id or passage is stale, wherever it was copied to."""
    save(tmp_path / "b", model.block(tiny.ids(30)), BOUND, scheme="int8")
    found = load(tmp_path / "b", model, dataclasses.replace(BOUND, **{field: "another"}))
    assert isinstance(found, Miss)
    assert found.why == "stale"
