"""Composed memories of a real model, SmolLM2-135M-Instruct, on the project's own conversation."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from memos_engine.activation.compose import Composed, compose
from memos_engine.activation.plan import Policy
from memos_engine.activation.rope import Rotary
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from memos_engine.models.local import LocalModel
from tests.smollm2 import smollm2_folder

pytestmark = pytest.mark.slow

CONVERSATION = Path(__file__).parents[2] / "examples" / "data" / "conversation.jsonl"
MEMORY_TOKENS = 256
QUERY_TOKENS = 48
SAMPLES = (((0, 5, 10), (10, 256)), ((7, 3, 12), (7, 100)))
"""Sessions whose beginnings are the memories; session and start of the query: it goes on, or reads again."""


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """The model, in float32."""
    return LocalModel(smollm2_folder(), device="cpu")


@pytest.fixture(scope="module")
def sessions(model: LocalModel) -> list[tuple[int, ...]]:
    """The sessions of the conversation as tokens."""
    told: dict[str, list[str]] = {}
    for line in CONVERSATION.read_text(encoding="utf-8").splitlines():
        turn = json.loads(line)
        told.setdefault(turn["session"], []).append(f"{turn['name']}: {turn['text']}")
    return [model.encode("\n".join(lines)) for lines in told.values()]


def _head(model: LocalModel) -> tuple[int, ...]:
    return (model.tokenizer.bos_token_id,)


def _kl(expected: Tensor, found: Tensor) -> float:
    """Mean over rows of the divergence of `found` from `expected`, in nats."""
    told, got = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((told.exp() * (told - got)).sum(-1).mean())


def _after(model: LocalModel, composed: Composed, context: int, query: tuple[int, ...]) -> Tensor:
    """Logits of all tokens of a query behind the composed context."""
    layers = tuple(LayerKV(kv.keys[:, :context], kv.values[:, :context]) for kv in composed.prefix.layers)
    return model.logits(query, Prefix(composed.prefix.ids[:context], layers))


def _concatenated(model: LocalModel, blocks: list[KVBlock], query: tuple[int, ...]) -> Tensor:
    """Logits as the published system has them: caches with every BOS, joined, no key moved."""
    heads = model.prefill(_head(model))
    cache = DynamicCache()
    for layer, head in enumerate(heads.layers):
        kept = [block.layers[layer] for block in blocks]
        keys = torch.cat([part for kv in kept for part in (head.keys, kv.keys)], dim=1)
        values = torch.cat([part for kv in kept for part in (head.values, kv.values)], dim=1)
        cache.update(keys.unsqueeze(0), values.unsqueeze(0), layer)
    with torch.no_grad():
        answer = model.network(input_ids=torch.tensor([query]), past_key_values=cache, use_cache=True)
    logits: Tensor = answer.logits[0]
    return logits


def test_its_keys_can_be_moved(model: LocalModel) -> None:
    """The trial on one token passes in all 30 layers."""
    assert Rotary.of(model).reason == ""
    assert len(model.capabilities.layers) == 30


def test_all_of_it_recomputed_is_full_prefill(model: LocalModel, sessions: list[tuple[int, ...]]) -> None:
    """Two memories, every stale token recomputed: the logits of reading everything at once."""
    head, parts = _head(model), [sessions[0][:100], sessions[1][:80]]
    query = sessions[1][80:100]
    composed = compose(
        model,
        [model.block(part, head) for part in parts],
        query,
        behind=head,
        policy="query_aware",
        share=1.0,
    )
    assert composed.recomputed == 80
    expected = model.logits((*head, *parts[0], *parts[1], *query))[-len(query) :]
    found = _after(model, composed, 181, query)
    assert float((found - expected).abs().max()) <= 5e-4
    assert _kl(expected, found) < 1e-8


def test_composition_comes_near_to_full_prefill(model: LocalModel, sessions: list[tuple[int, ...]]) -> None:
    """Against plain concatenation: moved blocks lose at most 0.30 of the divergence, recomputed ones 0.20."""
    head = _head(model)
    policies: dict[str, tuple[Policy, float]] = {
        "moved": ("rerotated", 0.05),
        "aware": ("query_aware", 0.15),
        "few": ("drift", 0.05),
        "more": ("drift", 0.15),
    }
    found: dict[str, list[float]] = {name: [] for name in ("concatenated", *policies)}
    for chosen, (asked, start) in SAMPLES:
        memories = [sessions[number][:MEMORY_TOKENS] for number in chosen]
        query = sessions[asked][start : start + QUERY_TOKENS]
        blocks = [model.block(memory, head) for memory in memories]
        context = (*head, *(token for memory in memories for token in memory))
        expected = model.logits((*context, *query))[-len(query) :]
        found["concatenated"].append(_kl(expected, _concatenated(model, blocks, query)))
        for name, (policy, share) in policies.items():
            composed = compose(model, blocks, query, behind=head, policy=policy, share=share)
            assert composed.recomputed <= share * len(context) + 1
            found[name].append(_kl(expected, _after(model, composed, len(context), query)))
    ratio = {name: fmean(values) / fmean(found["concatenated"]) for name, values in found.items()}
    assert ratio["moved"] <= 0.30, ratio
    assert ratio["aware"] <= 0.20, ratio
    assert ratio["few"] <= 0.20, ratio
    assert ratio["more"] <= 0.12, ratio
