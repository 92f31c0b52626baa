"""Recomputing chosen tokens: all of them is full prefill, none of them changes what is not theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from memos_engine.activation.compose import compose
from memos_engine.activation.drift import Drift, shrunk_mean
from memos_engine.activation.recompute import Draft, refusal
from memos_engine.activation.rope import Rotary
from memos_engine.activation.selection import attended, deviations, first_of_each, spread, top
from memos_engine.activation.values import LayerKV
from memos_engine.errors import ModelFailed
from memos_engine.models.local import LocalModel
from tests.activation import tiny

HEAD = tiny.ids(5, seed=1)
ONE = tiny.ids(50, seed=2)
TWO = tiny.ids(60, seed=3)
QUERY = tiny.ids(20, seed=4)
IDS = (*HEAD, *ONE, *TWO, *QUERY)
TWO_AT, QUERY_AT = len(HEAD) + len(ONE), len(HEAD) + len(ONE) + len(TWO)
EXACT = 5e-5


def _gemma2() -> LocalModel:
    """Soft caps on attention and on logits, and sliding windows in every second layer."""
    config = transformers.Gemma2Config(
        vocab_size=tiny.VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=24,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        max_position_embeddings=512,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    return LocalModel(transformers.AutoModelForCausalLM.from_config(config))


def _model(name: str) -> LocalModel:
    return _gemma2() if name == "gemma2" else LocalModel(tiny.network(name))


def _drafted(model: LocalModel) -> Draft:
    """HEAD and ONE exact, TWO as it was encoded behind HEAD alone and then moved; QUERY not there yet."""
    draft = Draft(model, IDS)
    lead = model.prefill((*HEAD, *ONE))
    block = model.block(TWO, HEAD)
    move = Rotary.of(model).move(block.start, TWO_AT, len(TWO))
    for layer, (kv, moved) in enumerate(zip(lead.layers, block.layers, strict=True)):
        draft.place(layer, 0, kv.keys, kv.values)
        draft.place(layer, TWO_AT, move.keys(moved.keys, layer), moved.values)
    return draft


def _rows(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop)


def _run(draft: Draft, rows: Tensor, drift: Drift | None = None) -> Tensor:
    logits = draft.run(rows, logits=len(QUERY), drift=drift)
    assert logits is not None
    return logits


def _gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@pytest.mark.parametrize("name", [*tiny.COMPOSABLE, "gemma2"])
def test_all_tokens_recomputed_is_full_prefill(name: str) -> None:
    """Recomputing every stale token gives the logits, keys and values of reading everything at once."""
    model = _model(name)
    expected = model.logits(IDS)[QUERY_AT:]
    draft = _drafted(model)
    moved = _run(draft, _rows(QUERY_AT, len(IDS)))
    assert _gap(moved, expected) > 1e-2, "without recomputation it must be told apart"
    assert _gap(_run(draft, _rows(TWO_AT, len(IDS))), expected) <= EXACT
    whole = model.prefill(IDS)
    for ours, theirs in zip(draft.finished().layers, whole.layers, strict=True):
        assert _gap(ours.keys, theirs.keys) <= EXACT
        assert _gap(ours.values, theirs.values) <= EXACT


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "gemma2"])
def test_from_nothing_it_is_full_prefill(name: str) -> None:
    """A draft in which every position runs needs nothing placed."""
    model = _model(name)
    assert _gap(_run(Draft(model, IDS), _rows(0, len(IDS))), model.logits(IDS)[QUERY_AT:]) <= EXACT


@pytest.mark.parametrize("name", ["llama", "neox", "gemma3"])
def test_a_part_recomputed_is_what_the_definition_says(name: str) -> None:
    """Chosen rows see new keys of chosen rows and old keys of the rest: as one forward per row does."""
    model = _model(name)
    rows = torch.cat(
        (_rows(TWO_AT + 3, TWO_AT + 9), _rows(TWO_AT + 30, TWO_AT + 31), _rows(QUERY_AT, len(IDS)))
    )
    at_once = _run(_drafted(model), rows)
    one_by_one = _drafted(model)
    for row in rows[:-1]:
        one_by_one.run(row.reshape(1))
    last = one_by_one.run(rows[-1:], logits=1)
    assert last is not None
    assert _gap(at_once[-1:], last) <= EXACT


def test_what_is_not_run_stays_as_it_is() -> None:
    """Only the rows that run get new keys and values."""
    model = _model("llama")
    draft = _drafted(model)
    before = [LayerKV(kv.keys.clone(), kv.values.clone()) for kv in draft.finished().layers]
    draft.run(_rows(TWO_AT + 10, TWO_AT + 12))
    after = draft.finished().layers
    still = torch.tensor([row not in (TWO_AT + 10, TWO_AT + 11) for row in range(len(IDS))])
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.keys[:, still], new.keys[:, still])
        assert torch.equal(old.values[:, still], new.values[:, still])
    assert not torch.equal(before[1].values[:, ~still], after[1].values[:, ~still])


def test_a_part_of_the_layers_leaves_the_others() -> None:
    """Running one layer renews the keys and values of layers 0 and 1, which are then exact, and no more."""
    model = _model("llama")
    draft = _drafted(model)
    before = [kv.values.clone() for kv in draft.finished().layers]
    assert draft.run(_rows(TWO_AT, QUERY_AT), layers=1) is None
    after, whole = draft.finished().layers, model.prefill(IDS[:QUERY_AT]).layers
    for layer in (0, 1):
        assert _gap(after[layer].keys[:, :QUERY_AT], whole[layer].keys) <= EXACT
        assert _gap(after[layer].values[:, :QUERY_AT], whole[layer].values) <= EXACT
    assert not torch.equal(before[1], after[1].values)
    assert torch.equal(before[2], after[2].values)


@pytest.mark.parametrize("name", ["llama", "glm", "neox", "gemma3", "gemma2"])
def test_attention_is_seen_and_the_model_left_as_it_was(name: str) -> None:
    """The observer sees every layer's weights, which sum to 1; logits and settings are as without it."""
    model = _model(name)
    usual = model.network.config._attn_implementation
    seen: dict[int, Tensor] = {}
    rows = _rows(QUERY_AT, len(IDS))
    watched = _drafted(model).run(
        rows, logits=len(QUERY), observer=lambda layer, it: seen.update({layer: it})
    )
    assert watched is not None
    assert _gap(watched, _run(_drafted(model), rows)) <= EXACT
    assert sorted(seen) == list(range(len(model.capabilities.layers)))
    for weights in seen.values():
        assert weights.shape == (4, len(QUERY), len(IDS))
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert weights[:, 0, QUERY_AT + 1 :].abs().max() == 0
    assert model.network.config._attn_implementation == usual
    assert not any(module._forward_hooks for module in model.network.modules())


def test_a_failure_is_ours_and_leaves_the_model_usable() -> None:
    """An id outside the vocabulary is told as ModelFailed; settings and lock are as before."""
    model = _model("llama")
    usual = model.network.config._attn_implementation
    draft = Draft(model, (1, 2, tiny.VOCABULARY + 7))
    with pytest.raises(ModelFailed, match="failed on 3 of 3 tokens"):
        draft.run(_rows(0, 3), observer=lambda layer, weights: None)
    assert model.network.config._attn_implementation == usual
    taken: list[bool] = []
    other = threading.Thread(target=lambda: taken.append(model.lock.acquire(timeout=5)))
    other.start()
    other.join()
    assert taken == [True]


@pytest.mark.parametrize("name", [*tiny.COMPOSABLE, "gemma2"])
def test_models_that_run_chosen_tokens_are_not_refused(name: str) -> None:
    """The trial passes where recomputation is exact."""
    assert refusal(_model(name)) == ""


def _ignoring(mask: Tensor) -> dict[str, Tensor]:
    return {"attention_mask": torch.zeros_like(mask)}


def _refusing(mask: Tensor) -> dict[str, Tensor]:
    raise TypeError(f"no mask of {mask.ndim} axes, please")


@pytest.mark.parametrize(
    ("answer", "told"),
    [(_ignoring, "does not keep to the positions and masks"), (_refusing, "no mask of 4 axes, please")],
)
def test_a_model_that_takes_no_masks_is_refused(
    answer: Callable[[Tensor], dict[str, Tensor]], told: str
) -> None:
    """Code that lets chosen tokens see later ones, or cannot run them at all, is found out by the trial."""
    model = _model("llama")
    decoder = model.network.model
    usual = decoder.forward

    def forward(*args: Any, **asked: Any) -> Any:
        mask = asked.get("attention_mask")
        return usual(*args, **(asked if mask is None else asked | answer(mask)))

    decoder.forward = forward
    assert told in refusal(model)
    composed = compose(model, [model.block(ONE, HEAD), model.block(TWO, HEAD)], QUERY, behind=HEAD)
    assert composed.method == "full"
    assert told in composed.reason


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_only_attention_that_obeys_masks_is_used(implementation: str) -> None:
    """Whatever attention the model is set to, recomputation is exact, and the setting stays."""
    model = _model("llama")
    expected = model.logits(IDS)[QUERY_AT:]
    draft = _drafted(model)
    model.network.config._attn_implementation = implementation
    assert _gap(_run(draft, _rows(TWO_AT, len(IDS))), expected) <= EXACT
    assert model.network.config._attn_implementation == implementation


def test_deviations_are_those_of_the_values_of_layer_1() -> None:
    """Tokens are scored by how far layer 1's values are from those of full prefill."""
    model = _model("llama")
    draft, stale = _drafted(model), _rows(TWO_AT, QUERY_AT)
    old = draft.values(1, stale)
    exact = model.prefill(IDS[:QUERY_AT]).layers[1].values[:, TWO_AT:]
    expected = (exact - old).square().sum(dim=(0, 2))
    found = deviations(draft, _rows(0, 0), stale)
    assert found.min() > 0
    assert torch.allclose(found, expected, rtol=1e-3)


def test_attended_tokens_are_those_the_query_looks_at() -> None:
    """The score is the mean over heads and layers of the most attentive query token's weight."""
    model = _model("llama")
    weights: list[Tensor] = []
    query = _rows(QUERY_AT, len(IDS))
    _drafted(model).run(query, layers=2, observer=lambda layer, seen: weights.append(seen))
    found = attended(_drafted(model), _rows(0, 0), query, layers=2)
    assert found is not None
    assert len(weights) == 2
    assert torch.allclose(found, torch.stack(weights).amax(2).mean((0, 1)), atol=1e-6)


def test_fresh_tokens_run_with_the_look() -> None:
    """A head that no block holds is computed in the same forward as the query that looks at it."""
    model = _model("llama")
    known, unknown = _drafted(model), Draft(model, IDS)
    for layer, kv in enumerate(known.finished().layers):
        unknown.place(layer, len(HEAD), kv.keys[:, len(HEAD) :], kv.values[:, len(HEAD) :])
    query = _rows(QUERY_AT, len(IDS))
    expected = attended(known, _rows(0, 0), query, layers=3)
    found = attended(unknown, _rows(0, len(HEAD)), query, layers=3)
    assert expected is not None
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-6)


def test_positions_are_spread_evenly_and_taken_by_rank() -> None:
    """Samples are the middles of equal parts; the first of each block and the best are in ascending order."""
    block = torch.arange(100, 116)
    assert spread(block, 4).tolist() == [102, 106, 110, 114]
    assert spread(block, 99).tolist() == block.tolist()
    assert spread(block, 0).tolist() == []
    assert spread(block[:0], 3).tolist() == []
    assert first_of_each([block, block + 50], 2).tolist() == [100, 101, 150, 151]
    assert first_of_each([block[:1]], 2).tolist() == [100]
    assert top(block[:4], torch.tensor([0.1, 3.0, 0.2, 2.0]), 2).tolist() == [101, 103]
    assert top(block[:1], torch.tensor([1.0]), 5).tolist() == [100]


def test_a_shift_of_a_whole_block_is_learnt_from_its_samples() -> None:
    """Rows that all moved by one vector end where they should be, whichever of them were samples."""
    torch.manual_seed(0)
    truth = torch.randn(1, 2, 60, 4)
    shifts = [torch.tensor([1.0, 0.0, -2.0, 0.5]), torch.tensor([0.0, 3.0, 0.0, 0.0])]
    blocks = [torch.arange(5, 35), torch.arange(35, 60)]
    buffer = truth.clone()
    for block, shift in zip(blocks, shifts, strict=True):
        buffer[:, :, block] -= shift
    samples = [spread(block, 10) for block in blocks]
    rows = torch.cat(samples)
    drift = Drift(rows, blocks, samples)
    before = buffer[0].index_select(1, drift.sampled)
    buffer[:, :, rows] = truth[:, :, rows]
    drift.correct(buffer, before)
    assert torch.allclose(buffer, truth, atol=1e-5)


def test_few_or_disagreeing_samples_move_nothing() -> None:
    """A mean that chance explains is 0, a sure one is kept, and one sample tells nothing."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 16, 200, generator=generator)
    assert shrunk_mean(noise).square().mean() < 0.5 * noise.mean(1).square().mean()
    assert torch.allclose(shrunk_mean(noise * 0.01 + 5), torch.full((1, 1, 200), 5.0), atol=0.02)
    assert torch.equal(shrunk_mean(torch.ones(2, 1, 3)), torch.zeros(2, 1, 3))
    assert torch.equal(shrunk_mean(torch.ones(2, 4, 3)), torch.ones(2, 1, 3))
    assert torch.equal(shrunk_mean(torch.zeros(2, 4, 3)), torch.zeros(2, 1, 3))


@pytest.mark.parametrize("name", ["llama", "yarn", "gemma3", "mistral"])
def test_drift_within_a_run_moves_what_is_not_run_and_nothing_else(name: str) -> None:
    """Unsampled rows of the block change in every layer behind the first; rows before it never do."""
    model = _model(name)
    stale = _rows(TWO_AT, QUERY_AT)
    samples = [spread(stale, 20)]
    rows = torch.cat((*samples, _rows(QUERY_AT, len(IDS))))
    draft = _drafted(model)
    before = [LayerKV(kv.keys.clone(), kv.values.clone()) for kv in draft.finished().layers]
    _run(draft, rows, Drift(rows, [stale], samples))
    left = stale[~torch.isin(stale, rows)]
    for layer, (old, new) in enumerate(zip(before, draft.finished().layers, strict=True)):
        assert torch.equal(old.keys[:, :TWO_AT], new.keys[:, :TWO_AT])
        assert torch.equal(old.values[:, :TWO_AT], new.values[:, :TWO_AT])
        assert torch.equal(old.values[:, left], new.values[:, left]) == (layer == 0)


def test_drift_with_every_row_run_is_full_prefill() -> None:
    """Where nothing is left to move, drift leaves the exactness of recomputation as it is."""
    model = _model("gemma3")
    stale = _rows(TWO_AT, QUERY_AT)
    rows = _rows(TWO_AT, len(IDS))
    logits = _run(_drafted(model), rows, Drift(rows, [stale], [spread(stale, 9)]))
    assert _gap(logits, model.logits(IDS)[QUERY_AT:]) <= EXACT
