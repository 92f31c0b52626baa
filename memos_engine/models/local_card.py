"""Fingerprints of a local model: what must be the same for a stored key or value to be used again.

Weights that were read from files are known by the files, which costs a read and no forward; weights
handed over as an object are known by their tensors. Nothing here loads a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from memos_engine.models.local_values import ModelKey

__all__ = ["digest_of_files", "digest_of_tensors", "model_key"]

_NO_PART_OF_THE_MODEL = {
    "_attn_implementation",
    "_name_or_path",
    "architectures",
    "dtype",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""Settings that leave keys and values as they are, or have a field of their own in the key."""
_OF_THE_ROPE = (
    "head_dim",
    "layer_types",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
)
_STATE_OF_A_TOKENIZER = ("padding", "truncation")
"""What the last call left behind."""
_READ: dict[tuple[Path, int, int], str] = {}
"""Path, size and time of change in nanoseconds -> SHA-256 of a file this process has read."""


def model_key(
    module: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    weights: str,
    adapter: str | None,
) -> ModelKey:
    """Return what decides the keys and values of a text.

    Args:
        weights: Digest of the weights.
        adapter: Digest of the adapter. None means there is none.
    """
    config = module.config
    described = {
        "config": _without(config.to_dict(), _NO_PART_OF_THE_MODEL),
        "kind": type(module).__name__,
        "transformers": transformers.__version__.partition(".")[0],
        "weights": weights,
    }
    return ModelKey(
        model=_digest(described),
        tokenizer=_tokenizer_digest(tokenizer),
        template=_digest(getattr(tokenizer, "chat_template", None) or ""),
        rope=_digest(_rope(config.get_text_config(decoder=True))),
        adapter=adapter,
        dtype=str(module.dtype).removeprefix("torch."),
    )


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return one digest of the contents of files, in the order of their names.

    Each is read once per process, unless its size or time of change is another.

    Raises:
        OSError: One cannot be read.
    """
    return _digest([_of_file(path) for path in sorted(paths, key=lambda path: path.name)])


def digest_of_tensors(module: PreTrainedModel) -> str:
    """Return one digest of all weights of a model in memory (0.3 s for 135M parameters in float32)."""
    digest = hashlib.sha256()
    told: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        same = (tensor.data_ptr(), tuple(tensor.shape))
        if same in told:
            continue  # tied weights have two names and one memory
        told.add(same)
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(flat.numpy()))
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    place = path.resolve()
    found = place.stat()
    unchanged = (place, found.st_size, found.st_mtime_ns)
    if unchanged not in _READ:
        with place.open("rb") as file:
            _READ[unchanged] = hashlib.file_digest(file, "sha256").hexdigest()
    return _READ[unchanged]


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase | None) -> str:
    if tokenizer is None:
        return _digest("")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return _digest(_without(json.loads(backend.to_str()), set(_STATE_OF_A_TOKENIZER)))
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return _digest([type(tokenizer).__name__, tokenizer.get_vocab(), special])


def _rope(config: PretrainedConfig) -> dict[str, Any]:
    return {name: getattr(config, name, None) for name in _OF_THE_ROPE}


def _without(settings: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {
        name: _without(value, names) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if name not in names
    }


def _digest(value: object) -> str:
    told = json.dumps(_ordered(value), ensure_ascii=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def _ordered(value: object) -> object:
    """Return JSON values whose order says nothing: objects sorted by name, keys as text."""
    if isinstance(value, Mapping):
        return {name: _ordered(item) for name, item in sorted((str(k), v) for k, v in value.items())}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    return value
