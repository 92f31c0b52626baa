"""Fingerprints: everything that changes keys and values changes the key, and nothing else does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from memos_engine.models.local import LocalModel
from memos_engine.models.local_card import digest_of_files, digest_of_tensors
from memos_engine.models.local_values import ModelKey
from tests.activation import tiny


def key(
    name: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **settings: Any
) -> ModelKey:
    """The key of a tiny model, with some settings of its configuration changed."""
    network = tiny.network(name, seed=seed).to(dtype)
    for setting, value in settings.items():
        setattr(network.config, setting, value)
    return LocalModel(network, tokenizer=tiny.tokenizer()).key


def differing(one: ModelKey, other: ModelKey) -> set[str]:
    """The fields in which two keys differ."""
    return {name for name in ModelKey.__dataclass_fields__ if getattr(one, name) != getattr(other, name)}


def test_the_same_model_has_the_same_key() -> None:
    """Made twice, named otherwise, run by other code paths: the key is the same."""
    assert key() == key()
    assert key().digest == key().digest
    assert (
        differing(key(), key(_name_or_path="/elsewhere", use_cache=False, transformers_version="0")) == set()
    )
    assert key().adapter is None
    assert key().dtype == "float32"
    assert all(len(text) == 64 for text in (key().model, key().tokenizer, key().template, key().rope))


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (lambda: key(seed=1), {"model"}),
        (lambda: key(rms_norm_eps=1e-3), {"model"}),
        (lambda: key(rope_parameters={"rope_type": "default", "rope_theta": 5e5}), {"model", "rope"}),
        (lambda: key("yarn"), {"model", "rope"}),
        (lambda: key("glm"), {"model", "rope"}),
        (lambda: key(dtype=torch.bfloat16), {"model", "dtype"}),
    ],
    ids=["weights", "settings", "theta", "yarn", "architecture", "dtype"],
)
def test_what_changes_keys_and_values_changes_the_key(
    other: Callable[[], ModelKey], fields: set[str]
) -> None:
    """Weights, settings, rotary parameters and dtype are each seen, in their own field."""
    assert differing(key(), other()) == fields
    assert key().digest != other().digest


def test_tokenizer_and_template_are_seen() -> None:
    """Another vocabulary or template is another key; what the last call left behind is not."""
    network = tiny.network()
    plain = LocalModel(network, tokenizer=tiny.tokenizer()).key
    more, other = tiny.tokenizer(), tiny.tokenizer()
    more.add_tokens(["<extra>"])
    other.chat_template += " "
    assert differing(plain, LocalModel(network, tokenizer=more).key) == {"tokenizer"}
    assert differing(plain, LocalModel(network, tokenizer=other).key) == {"template"}
    assert differing(plain, LocalModel(network).key) == {"tokenizer", "template"}
    used = tiny.tokenizer()
    used("some text", truncation=True, max_length=3)
    assert LocalModel(network, tokenizer=used).key == plain


def test_one_changed_weight_is_seen() -> None:
    """A single number in a single tensor makes another digest; tied weights are read once."""
    network = tiny.network()
    before = digest_of_tensors(network)
    with torch.no_grad():
        network.model.layers[1].mlp.up_proj.weight[3, 4] += 1e-6
    assert digest_of_tensors(network) != before


def test_files_are_known_by_content(tmp_path: Path) -> None:
    """Digests follow the content and the names' order, and a changed file is read again."""
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"first")
    two.write_bytes(b"second")
    before = digest_of_files([two, one])
    assert before == digest_of_files([one, two])
    one.write_bytes(b"third")
    os.utime(one, ns=(1, 1))
    assert digest_of_files([one, two]) != before
    one.write_bytes(b"first")
    os.utime(one, ns=(2, 2))
    assert digest_of_files([one, two]) == before


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    """The second digest of a file with the same size and time of change costs no read."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"first")
    os.utime(path, ns=(5, 5))
    before = digest_of_files([path])
    path.write_bytes(b"FIRST")
    os.utime(path, ns=(5, 5))
    assert digest_of_files([path]) == before
