"""What can be done with a model's keys and values, and why not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from memos_engine.models.local_layers import capabilities, regime_of
from memos_engine.models.local_values import LayerKind
from tests.activation import tiny

FULL = LayerKind("full", None, 2, 16, "", 16)
SLIDING = LayerKind("sliding", 24, 2, 16, "", 16)

LAYERS: dict[str, tuple[LayerKind, ...]] = {
    "llama": (FULL,) * 3,
    "mistral": (SLIDING,) * 3,
    "gemma3": (
        LayerKind("sliding", 24, 2, 16, "sliding_attention", 16),
        LayerKind("full", None, 2, 16, "full_attention", 16),
        LayerKind("sliding", 24, 2, 16, "sliding_attention", 16),
    ),
    "smollm3": (FULL, LayerKind("full", None, 2, 16, None, 16), FULL),
    "gpt2": (LayerKind("full", None, 4, 16, None, 16),) * 3,
    "qwen3_next": (),
}
REASONS = {
    "dynamic": "'dynamic'",
    "longrope": "'longrope'",
    "gpt2": "no rotary position embedding",
    "bloom": "ALiBi",
    "deepseek": "MLA",
    "qwen3_next": "LinearAttentionLayer",
}


def changed(name: str, **settings: Any) -> PreTrainedModel:
    """A tiny model whose configuration says something else than what it was made by."""
    network = tiny.network(name)
    for setting, value in settings.items():
        setattr(network.config, setting, value)
    return network


@pytest.mark.parametrize("name", tiny.CONFIGURATIONS)
def test_only_exact_moves_are_promised(name: str) -> None:
    """Models whose keys can be moved exactly are composable; every other one has a reason."""
    found = capabilities(tiny.network(name))
    assert found.composable == (name in tiny.COMPOSABLE) == (not found.reason)
    assert REASONS.get(name, "") in found.reason


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_told(name: str) -> None:
    """Kind, window, shape and rotary set of each layer are those of the architecture."""
    assert capabilities(tiny.network(name)).layers == LAYERS[name]


def test_sizes_are_told() -> None:
    """Bytes of a token count keys and values of all layers in the model's dtype; so does the context."""
    found = capabilities(tiny.network())
    assert found.bytes_per_token == 3 * 2 * 2 * 16 * 4
    assert found.context_tokens == tiny.CONTEXT_TOKENS
    assert capabilities(tiny.network().to(torch.bfloat16)).bytes_per_token == 3 * 2 * 2 * 16 * 2
    assert capabilities(tiny.network("dynamic")).context_tokens == 64 * 8
    assert capabilities(tiny.network("bloom")).context_tokens >= 1 << 20


@pytest.mark.parametrize(
    ("rope", "says"),
    [
        ({"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}, "M-RoPE"),
        ({"rope_type": "mrope", "rope_theta": 1e4}, "M-RoPE"),
        ({"rope_type": "spiral", "rope_theta": 1e4}, "'spiral'"),
    ],
    ids=["sections", "type", "unknown"],
)
def test_positions_of_another_kind_are_refused(rope: dict[str, Any], says: str) -> None:
    """Several position axes, and types that nobody knows, are no promise."""
    assert says in capabilities(changed("llama", rope_parameters=rope)).reason


def test_chunks_of_fixed_positions_are_refused() -> None:
    """Llama 4's chunks begin at fixed positions: a block that moves would be cut elsewhere."""
    network = changed("mistral", layer_types=["chunked_attention"] * 3, attention_chunk_size=24)
    assert "chunks" in capabilities(network).reason


def test_a_model_that_sees_later_tokens_keeps_nothing() -> None:
    """Keys of a prefix must not depend on what follows; a BERT that reads both ways is found out."""
    config = transformers.BertConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.2,
        is_decoder=False,
    )
    found = capabilities(transformers.BertLMHeadModel(config).eval())
    assert (found.layers, found.composable) == ((), False)
    assert found.reason


def test_looking_changes_nothing() -> None:
    """The trial on two tokens leaves the weights and later answers as they were."""
    network, untouched = tiny.network("gemma3"), tiny.network("gemma3")
    capabilities(network)
    ids = torch.tensor([tiny.ids(40)])
    with torch.no_grad():
        assert torch.equal(network(ids).logits, untouched(ids).logits)


@pytest.mark.parametrize(
    ("name", "same", "apart"),
    [
        ("llama", [(1, 500)], []),
        ("dynamic", [(1, 64), (30, 50)], [(64, 65), (65, 66)]),
        ("longrope", [(1, 64), (65, 500)], [(64, 65), (10, 300)]),
        ("gemma3", [(1, 500)], []),
    ],
)
def test_lengths_that_share_frequencies(
    name: str, same: list[tuple[int, int]], apart: list[tuple[int, int]]
) -> None:
    """Keys of one length serve another exactly as long as the rotary frequencies are the same."""
    regime = regime_of(tiny.CONFIGURATIONS[name]())
    assert all(regime(one) == regime(other) for one, other in same)
    assert all(regime(one) != regime(other) for one, other in apart)
