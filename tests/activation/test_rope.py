"""Moving keys: what a model itself computes at the new positions is the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from memos_engine.activation.rope import Rotary
from memos_engine.models.local import LocalModel
from tests.activation import tiny

_LONG: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_FURTHER: dict[str, PretrainedConfig] = {
    "qwen2": transformers.Qwen2Config(**_LONG),
    "cohere": transformers.CohereConfig(**_LONG),
    "phi3": transformers.Phi3Config(**_LONG),
    "phi": transformers.PhiConfig(**_LONG),
    "stablelm": transformers.StableLmConfig(**_LONG),
    "gemma2": transformers.Gemma2Config(**_LONG, head_dim=16, sliding_window=24),
    "cohere2": transformers.Cohere2Config(
        **_LONG,
        sliding_window=24,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}
_MODELS = (*tiny.COMPOSABLE, *_FURTHER)
_COUNT = 40


def _made(name: str) -> PreTrainedModel:
    if name not in _FURTHER:
        config = tiny.CONFIGURATIONS[name]()
        config.max_position_embeddings = 8192
        config.rope_parameters = _of_a_long_model(config.rope_parameters)
    else:
        config = _FURTHER[name]
    torch.manual_seed(0)
    made: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config).eval()
    return made


def _of_a_long_model(rope: dict[str, Any]) -> dict[str, Any]:
    """The factor of a scaled RoPE as the model's context says it, without which transformers warns."""
    long = dict(rope)
    if long.get("rope_type") == "yarn":
        long["factor"] = 8192 / long["original_max_position_embeddings"]
    return long


def _keys(network: PreTrainedModel, ids: tuple[int, ...], start: int) -> list[Tensor]:
    """What the model caches of ids that stand at `start` and on, nothing before them."""
    cache = DynamicCache()
    positions = torch.arange(start, start + len(ids)).unsqueeze(0)
    with torch.no_grad():
        network(input_ids=torch.tensor([ids]), position_ids=positions, past_key_values=cache, use_cache=True)
    return [layer.keys[0] for layer in cache.layers]


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("shift", [57, 1500, 8000])
@pytest.mark.parametrize("name", _MODELS)
def test_moved_keys_of_the_first_layer_are_those_of_the_model(name: str, shift: int) -> None:
    """Keys of layer 0, which no other token enters, equal the model's own at the new positions."""
    network = _made(name)
    rotary = Rotary.of(LocalModel(network))
    assert rotary.reason == ""
    ids = tiny.ids(_COUNT, seed=shift)
    old, new = _keys(network, ids, 2)[0], _keys(network, ids, 2 + shift)[0]
    assert _error(rotary.move(2, 2 + shift, _COUNT).keys(old, 0), new) <= 1e-5
    assert _error(old, new) > 0.05, "the oracle must be able to fail"


@pytest.mark.parametrize("name", _MODELS)
def test_moved_keys_of_every_layer_are_those_of_the_model(name: str) -> None:
    """A lone token's keys in all layers, each with its own frequencies or none, equal the model's own."""
    network = _made(name)
    rotary = Rotary.of(LocalModel(network))
    move = rotary.move(2, 1502, 1)
    old, new = _keys(network, (5,), 2), _keys(network, (5,), 1502)
    for layer, (before, after) in enumerate(zip(old, new, strict=True)):
        assert _error(move.keys(before, layer), after) <= 1e-5


def test_moving_back_is_moving_from_the_canonical_copy() -> None:
    """Keys that go to an earlier position are the model's own, too; nothing is added up on the way."""
    network = _made("llama")
    rotary = Rotary.of(LocalModel(network))
    ids = tiny.ids(_COUNT)
    far, near = _keys(network, ids, 900)[0], _keys(network, ids, 1)[0]
    assert _error(rotary.move(900, 1, _COUNT).keys(far, 0), near) <= 1e-5


def test_half_precision_rounds_once() -> None:
    """Of bfloat16 keys the moved ones are float32 and as near as the rounding of the canonical copy allows."""
    network = _made("llama").to(torch.bfloat16)
    rotary = Rotary.of(LocalModel(network))
    assert rotary.reason == ""
    ids = tiny.ids(_COUNT)
    old, new = _keys(network, ids, 2)[0], _keys(network, ids, 1502)[0]
    moved = rotary.move(2, 1502, _COUNT).keys(old, 0)
    assert moved.dtype == torch.float32
    assert _error(moved, new) <= 1e-2


@pytest.mark.parametrize("name", ["llama", "smollm3"])
def test_the_given_keys_are_never_changed(name: str) -> None:
    """Moving leaves its source as it was; what need not turn is the source itself."""
    rotary = Rotary.of(LocalModel(_made(name)))
    keys = torch.randn(2, _COUNT, 16, generator=torch.Generator().manual_seed(0))
    before = keys.clone()
    for layer in range(3):
        moved = rotary.move(1, 300, _COUNT).keys(keys, layer)
        assert torch.equal(keys, before)
        assert (moved is keys) == (rotary.name(layer) is None)
        assert rotary.move(7, 7, _COUNT).keys(keys, layer) is keys


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dynamic", "'dynamic': the frequencies depend on the length"),
        ("longrope", "'longrope': the frequencies depend on the length"),
        ("gpt2", "no rotary position embedding"),
        ("bloom", "ALiBi"),
        ("deepseek", "latent attention"),
        ("qwen3_next", "keep more than keys and values"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_the_reason(name: str, told: str) -> None:
    """A model whose keys cannot be moved exactly says why, and moves none."""
    rotary = Rotary.of(LocalModel(tiny.network(name)))
    assert told in rotary.reason
    with pytest.raises(AssertionError):
        rotary.move(0, 1, 1)


class _Twisted(torch.nn.Module):  # type: ignore[misc] # -- torch is not followed
    """A rotary module that turns hidden states otherwise than it says when it is asked alone."""

    def __init__(self, usual: torch.nn.Module) -> None:
        super().__init__()
        self.usual = usual

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.usual(x, position_ids * (2 if x.ndim == 3 else 1))
        return cos, sin


def test_a_model_that_does_not_do_what_it_says_is_found_out() -> None:
    """A model whose keys are not turned by its own functions is refused by the trial on one token."""
    network = tiny.network("llama")
    model = LocalModel(network)
    assert model.capabilities.composable
    network.model.rotary_emb = _Twisted(network.model.rotary_emb)
    assert "do not follow its rotary functions" in Rotary.of(model).reason


def test_unknown_rotary_functions_are_refused() -> None:
    """A model whose rotary module takes other arguments is refused with its own words."""
    network = tiny.network("llama")
    model = LocalModel(network)
    assert model.capabilities.composable
    network.model.rotary_emb = torch.nn.Identity()
    assert "of an unknown kind" in Rotary.of(model).reason


def test_it_is_tried_once_per_model() -> None:
    """The second question about a model is answered without another forward."""
    model = LocalModel(tiny.network("llama"))
    assert Rotary.of(model) is Rotary.of(model)
