"""Composing blocks: every method ends in a prefix that the model goes on from."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from memos_engine.activation.chain import Chain, chain_root
from memos_engine.activation.compose import Composed, compose
from memos_engine.activation.plan import Policy
from memos_engine.activation.rope import Rotary
from memos_engine.activation.values import KVBlock, Prefix, Rates
from memos_engine.errors import BadInput, BadLimit
from memos_engine.models.local import LocalModel
from tests.activation import tiny

HEAD = tiny.ids(3, seed=1)
PARTS = (tiny.ids(40, seed=2), tiny.ids(70, seed=3), tiny.ids(33, seed=4))
QUERY = tiny.ids(12, seed=5)
CONTEXT = (*HEAD, *PARTS[0], *PARTS[1], *PARTS[2])
IDS = (*CONTEXT, *QUERY)
EXACT = 5e-5
STALE = len(PARTS[1]) + len(PARTS[2])
METHODS: tuple[Policy, ...] = ("rerotated", "first_tokens", "cacheblend", "query_aware", "drift")


@cache
def _model(name: str = "llama") -> LocalModel:
    """A tiny model on a machine that is said to be slow, so that composing pays."""
    model = LocalModel(tiny.network(name))
    model.__dict__["rates"] = Rates(
        prefill_tokens_per_s={16: 160.0, 64: 300.0}, read_bytes_per_s=1e9, copy_bytes_per_s=1e9
    )
    return model


@cache
def _blocks(name: str = "llama") -> tuple[KVBlock, ...]:
    return tuple(_model(name).block(part, HEAD) for part in PARTS)


def _next(model: LocalModel, composed: Composed) -> Tensor:
    """Logits after the last token of the query."""
    return model.logits(composed.rest, composed.prefix)[-1]


def _gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def _tensors(layers: Prefix | KVBlock) -> list[Tensor]:
    return [tensor for kv in layers.layers for tensor in (kv.keys, kv.values)]


@pytest.mark.parametrize("name", tiny.COMPOSABLE)
def test_a_block_behind_its_own_head_is_exact(name: str) -> None:
    """One block where it was encoded gives the logits of full prefill, and nothing is computed anew."""
    model = _model(name)
    composed = compose(model, _blocks(name)[:1], QUERY, behind=HEAD)
    assert (composed.method, composed.error_class, composed.recomputed) == ("exact", "exact", 0)
    assert composed.prefix.ids == (*HEAD, *PARTS[0])
    assert composed.rest == QUERY
    assert _gap(_next(model, composed), model.logits((*HEAD, *PARTS[0], *QUERY))[-1]) <= EXACT


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_blocks_encoded_behind_each_other_are_exact(name: str) -> None:
    """A block that was encoded behind just what stands before it is exact wherever that is."""
    model = _model(name)
    first = _blocks(name)[0]
    second = model.block(PARTS[1], (*HEAD, *PARTS[0]))
    composed = compose(model, (first, second), QUERY, behind=HEAD)
    assert composed.method == "exact"
    expected = model.logits((*HEAD, *PARTS[0], *PARTS[1], *QUERY))[-1]
    assert _gap(_next(model, composed), expected) <= EXACT


@pytest.mark.parametrize("name", tiny.COMPOSABLE)
@pytest.mark.parametrize("policy", ["first_tokens", "cacheblend", "query_aware", "drift", "full"])
def test_all_of_it_recomputed_is_full_prefill(name: str, policy: Policy) -> None:
    """Every method of recomputation ends in full prefill when it may recompute everything."""
    model = _model(name)
    composed = compose(model, _blocks(name), QUERY, behind=HEAD, policy=policy, share=1.0, first=999)
    assert _gap(_next(model, composed), model.logits(IDS)[-1]) <= EXACT
    assert composed.recomputed == (0 if policy == "full" else STALE)
    assert (*composed.prefix.ids, *composed.rest) == IDS


@pytest.mark.parametrize("name", ["llama", "yarn", "glm", "gemma3"])
def test_rerotated_blocks_have_the_keys_of_their_new_positions(name: str) -> None:
    """In layer 0, which sees no other token, the composed keys and values are those of full prefill."""
    model = _model(name)
    composed = compose(model, _blocks(name), QUERY, behind=HEAD, policy="rerotated")
    assert (composed.error_class, composed.rest) == ("moderate", QUERY)
    whole = model.prefill(CONTEXT)
    assert composed.prefix.ids == whole.ids
    assert _gap(composed.prefix.layers[0].keys, whole.layers[0].keys) <= EXACT
    assert _gap(composed.prefix.layers[0].values, whole.layers[0].values) <= EXACT
    first_block = len(HEAD) + len(PARTS[0])
    for ours, theirs in zip(composed.prefix.layers, whole.layers, strict=True):
        assert _gap(ours.keys[:, :first_block], theirs.keys[:, :first_block]) <= EXACT
    assert _gap(composed.prefix.layers[2].keys, whole.layers[2].keys) > 1e-2


@pytest.mark.parametrize("policy", METHODS[1:])
def test_recomputation_comes_with_the_query(policy: Policy) -> None:
    """Methods that recompute read the query in the same forward, and recompute no more than they may."""
    composed = compose(_model(), _blocks(), QUERY, behind=HEAD, policy=policy, share=0.1, first=4)
    assert composed.method == policy
    assert composed.prefix.ids == IDS
    assert composed.rest == ()
    assert 0 < composed.recomputed <= max(8, 0.1 * len(CONTEXT) + 1)
    assert composed.estimated_s > 0
    assert composed.seconds > 0


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("policy", METHODS[1:])
def test_a_composition_with_its_query_knows_what_follows(policy: Policy, name: str) -> None:
    """The logits that come with a recomputed prefix are those of reading its last token once more."""
    model = LocalModel(tiny.network(name), tokenizer=tiny.tokenizer())
    model.__dict__["rates"] = _model().rates
    blocks = [model.block(part, HEAD) for part in PARTS]
    prefix = compose(model, blocks, QUERY, behind=HEAD, policy=policy, share=0.1).prefix
    bare = Prefix(prefix.ids, prefix.layers)
    assert prefix.after is not None
    assert _gap(model.logits((), prefix), model.logits((), bare)) <= EXACT
    told, again = (model.complete((), each, max_new_tokens=6) for each in (prefix, bare))
    assert told.ids == again.ids
    assert (told.prompt_tokens, told.cached_tokens) == (len(IDS), len(IDS))


@pytest.mark.parametrize("policy", ["full", "rerotated", "drift"])
def test_a_composition_is_what_generation_takes(policy: Policy) -> None:
    """The rest and the prefix go into `complete` as they are; everything recomputed, it says what full prefill says."""
    model = LocalModel(tiny.network("gemma3"), tokenizer=tiny.tokenizer())
    model.__dict__["rates"] = _model().rates
    blocks = [model.block(part, HEAD) for part in PARTS]
    composed = compose(model, blocks, QUERY, behind=HEAD, policy=policy, share=1.0)
    answer = model.complete(composed.rest, composed.prefix, max_new_tokens=6)
    assert len(answer.ids) > 0
    assert answer.prompt_tokens == len(IDS)
    if policy != "rerotated":
        assert answer.ids == model.complete(IDS, max_new_tokens=6).ids


def test_a_wider_share_comes_nearer_to_full_prefill() -> None:
    """With every method the error falls when most tokens instead of few are computed anew."""
    model = _model()
    expected = model.logits(IDS)[-1].log_softmax(-1)
    for policy in METHODS[2:]:
        few, most = (
            compose(model, _blocks(), QUERY, behind=HEAD, policy=policy, share=share)
            for share in (0.02, 0.65)
        )
        gaps = [_gap(_next(model, one).log_softmax(-1), expected) for one in (few, most)]
        assert gaps[1] < gaps[0], policy


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_nothing_that_is_handed_over_is_changed(name: str) -> None:
    """Blocks and chained prefixes are bit for bit the same after every method and the answers."""
    model, blocks = _model(name), _blocks(name)
    chain, kept = Chain[Prefix](block_tokens=8), model.prefill((*HEAD, *PARTS[0][:20]))
    chain.add(kept.ids, kept, root=chain_root(model.key))
    handed: tuple[Prefix | KVBlock, ...] = (*blocks, kept)
    before = [tensor.clone() for held in handed for tensor in _tensors(held)]
    for policy in ("auto", "exact", "full", *METHODS):
        for used in (None, chain):
            composed = compose(model, blocks, QUERY, behind=HEAD, policy=policy, share=0.5, chain=used)
            _next(model, composed)
    after = [tensor for held in handed for tensor in _tensors(held)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_hundredth_composition_is_the_first(name: str) -> None:
    """Composing again, after other queries, gives the same prefix bit for bit."""
    model = _model(name)
    first = compose(model, _blocks(name), QUERY, behind=HEAD, policy="drift", share=0.2)
    for seed in range(5):
        compose(model, _blocks(name), tiny.ids(9, seed=seed), behind=HEAD, policy="query_aware")
    again = compose(model, _blocks(name), QUERY, behind=HEAD, policy="drift", share=0.2)
    assert all(
        torch.equal(one, other)
        for one, other in zip(_tensors(first.prefix), _tensors(again.prefix), strict=True)
    )


@pytest.mark.parametrize("tokens", [2, 3, 20, 43, 60, len(CONTEXT), len(CONTEXT) + 4, len(IDS)])
@pytest.mark.parametrize("policy", ["full", "drift"])
def test_a_chained_prefix_is_used_as_far_as_it_goes(tokens: int, policy: Policy) -> None:
    """What was read before is taken over, whole blocks or parts of them; the rest is exact when all is redone."""
    model = _model()
    chain = Chain[Prefix](block_tokens=16)
    kept = model.prefill((*IDS[:tokens], 7, 7))
    chain.add(kept.ids, kept, root=chain_root(model.key))
    composed = compose(model, _blocks(), QUERY, behind=HEAD, policy=policy, share=1.0, chain=chain)
    assert _gap(_next(model, composed), model.logits(IDS)[-1]) <= EXACT
    assert (*composed.prefix.ids, *composed.rest) == IDS
    if tokens >= len(CONTEXT):
        assert composed.method == "exact"
        assert len(composed.prefix.ids) == min(tokens, len(IDS) - 1)
    else:
        assert composed.recomputed == (0 if policy == "full" else STALE - max(0, tokens - 43))


def test_a_chain_is_used_for_its_tenant_only() -> None:
    """A prefix under another salt is not found."""
    model, chain = _model(), Chain[Prefix](block_tokens=16)
    chain.add(IDS, model.prefill(IDS), root=chain_root(model.key, salt="alice"))
    for salt, method in (("alice", "exact"), ("bob", "drift")):
        composed = compose(model, _blocks(), QUERY, behind=HEAD, share=0.1, chain=chain, salt=salt)
        assert composed.method == method


@pytest.mark.parametrize(
    ("name", "told"),
    [("dynamic", "'dynamic'"), ("longrope", "'longrope'"), ("gpt2", "RoPE"), ("bloom", "ALiBi")],
)
@pytest.mark.parametrize("policy", ["auto", "query_aware", "rerotated", "exact"])
def test_a_model_that_cannot_compose_reads_everything(name: str, told: str, policy: Policy) -> None:
    """The answer is that of full prefill, and the reason names what is in the way."""
    model = _model(name)
    blocks = tuple(model.block(part, HEAD) for part in PARTS)
    composed = compose(model, blocks, QUERY, behind=HEAD, policy=policy)
    assert (composed.method, composed.error_class) == ("full", "exact")
    assert told in composed.reason
    assert _gap(_next(model, composed), model.logits(IDS)[-1]) <= EXACT


@pytest.mark.parametrize("name", ["dynamic", "longrope", "gpt2"])
@pytest.mark.parametrize("tokens", [20, 90, 149])
def test_a_chained_prefix_of_such_a_model_is_right(name: str, tokens: int) -> None:
    """Frequencies that depend on the length never lead to wrong tokens: a prefix serves whole or not at all."""
    model = _model(name)
    for more in ((), (7, 7, 7)):
        chain, kept = Chain[Prefix](block_tokens=16), model.prefill((*IDS[:tokens], *more))
        chain.add(kept.ids, kept, root=chain_root(model.key))
        blocks = tuple(model.block(part, HEAD) for part in PARTS)
        composed = compose(model, blocks, QUERY, behind=HEAD, chain=chain)
        assert _gap(_next(model, composed), model.logits(IDS)[-1]) <= EXACT


def test_auto_says_what_it_did_and_why() -> None:
    """By default a share is recomputed with drift; with all the time in the world everything is read."""
    model = _model()
    default = compose(model, _blocks(), QUERY, behind=HEAD)
    assert (default.method, default.error_class) == ("drift", "small")
    assert "full prefill would take" in default.reason
    rich = compose(model, _blocks(), QUERY, behind=HEAD, budget_s=60.0)
    assert (rich.method, rich.error_class) == ("full", "exact")
    assert _gap(_next(model, rich), model.logits(IDS)[-1]) <= EXACT
    poor = compose(model, _blocks(), QUERY, behind=HEAD, budget_s=1e-9)
    assert poor.method == "rerotated"
    short = compose(model, (_blocks()[0], _blocks()[2]), QUERY, behind=HEAD)
    assert short.method == "full"
    assert "Only 33 tokens" in short.reason


def test_fewer_bits_are_told() -> None:
    """A block kept in fewer bits is not called exact where it stands in the prefix, and only there."""
    first, *others = _blocks()
    low = replace(first, rounded=True)
    alone = compose(_model(), [low], QUERY, behind=HEAD)
    assert (alone.method, alone.error_class) == ("exact", "rounded")
    assert compose(_model(), [first], QUERY, behind=HEAD).error_class == "exact"
    assert compose(_model(), [low, *others], QUERY, behind=HEAD, policy="full").error_class == "rounded"
    assert compose(_model(), [low, *others], QUERY, behind=HEAD, policy="drift").error_class == "small"
    assert compose(_model(), [low, *others], QUERY, behind=QUERY, policy="full").error_class == "exact"


def test_a_machine_that_reads_fast_reads() -> None:
    """The decision follows the model's own rates: where composing would be slower, it is declined."""
    model = LocalModel(tiny.network())
    model.__dict__["rates"] = Rates(
        prefill_tokens_per_s={16: 1e6, 64: 4e6}, read_bytes_per_s=1e9, copy_bytes_per_s=1.0
    )
    blocks = [model.block(part, HEAD) for part in PARTS]
    composed = compose(model, blocks, QUERY, behind=HEAD)
    assert composed.method == "full"
    assert "not slower" in composed.reason
    assert composed.prefix.ids == (*HEAD, *PARTS[0]), "what is exact is still taken over"


def test_measured_rates_lead_to_a_decision() -> None:
    """Without a word about rates, the machine is measured, and the estimate is a time."""
    model = LocalModel(tiny.network())
    composed = compose(model, [model.block(part, HEAD) for part in PARTS], QUERY, behind=HEAD)
    assert 0 < composed.estimated_s < 60


def test_a_head_is_not_needed() -> None:
    """Blocks encoded behind nothing are composed behind nothing; the first is exact."""
    model = _model()
    blocks = [model.block(part) for part in PARTS]
    assert compose(model, blocks[:1], QUERY).method == "exact"
    composed = compose(model, blocks, QUERY, policy="drift", share=1.0)
    assert composed.recomputed == STALE
    assert _gap(_next(model, composed), model.logits(IDS[len(HEAD) :])[-1]) <= EXACT


def test_a_head_alone_and_a_query_alone() -> None:
    """Without blocks there is nothing to compose: all is left to read."""
    model = _model()
    for behind in (HEAD, ()):
        composed = compose(model, (), QUERY, behind=behind)
        assert (composed.method, composed.rest) == ("exact", (*behind, *QUERY))
        assert _gap(_next(model, composed), model.logits((*behind, *QUERY))[-1]) <= EXACT


@pytest.mark.parametrize("policy", ["auto", "rerotated", "first_tokens", "cacheblend", "drift", "full"])
def test_without_a_query_the_last_memory_token_is_gone_on_from(policy: Policy) -> None:
    """A composition without a query gives what follows the memories."""
    model = _model()
    composed = compose(model, _blocks(), behind=HEAD, policy=policy, share=1.0, first=999)
    assert (*composed.prefix.ids, *composed.rest) == CONTEXT
    if policy != "rerotated":
        assert _gap(_next(model, composed), model.logits(CONTEXT)[-1]) <= EXACT


def test_a_block_of_another_position_and_dtype_is_moved_from_its_own() -> None:
    """A block encoded behind a longer head than the composition's is moved back; half precision is widened."""
    model = _model()
    block = model.block(PARTS[1], tiny.ids(30, seed=9))
    half = replace(
        block,
        layers=tuple(
            replace(kv, keys=kv.keys.bfloat16(), values=kv.values.bfloat16()) for kv in block.layers
        ),
    )
    whole = model.prefill((*HEAD, *PARTS[0], *PARTS[1]))
    for one, allowed in ((block, EXACT), (half, 3e-2)):
        composed = compose(model, (_blocks()[0], one), QUERY, behind=HEAD, policy="rerotated")
        assert _gap(composed.prefix.layers[0].keys, whole.layers[0].keys) <= allowed
        assert composed.prefix.layers[0].keys.dtype == torch.float32


def test_blocks_of_another_model_are_refused() -> None:
    """Keys of other weights are never mixed in."""
    other = LocalModel(tiny.network(seed=1))
    with pytest.raises(BadInput, match="made by another model"):
        compose(_model(), (other.block(PARTS[0], HEAD),), QUERY, behind=HEAD)


def test_what_cannot_be_meant_is_refused() -> None:
    """Numbers out of range, unknown policies, nothing at all and too much are told before any work."""
    model, blocks = _model(), _blocks()
    with pytest.raises(BadLimit, match="share=0"):
        compose(model, blocks, QUERY, share=0.0)
    with pytest.raises(BadLimit, match="share=nan"):
        compose(model, blocks, QUERY, share=float("nan"))
    with pytest.raises(BadLimit, match="first=0"):
        compose(model, blocks, QUERY, first=0)
    with pytest.raises(BadLimit, match="budget_s=-1"):
        compose(model, blocks, QUERY, budget_s=-1)
    with pytest.raises(BadInput, match="policy='best' is none of 'auto', 'exact'"):
        compose(model, blocks, QUERY, policy="best")  # type: ignore[arg-type] # -- on purpose
    with pytest.raises(BadInput, match="has no query"):
        compose(model, blocks, policy="query_aware")
    with pytest.raises(BadInput, match="0 tokens are none"):
        compose(model, ())
    with pytest.raises(BadInput, match="more than the 512"):
        compose(model, blocks * 4, QUERY)


def test_threads_compose_with_one_model() -> None:
    """Several threads at once get what each would get alone."""
    model, blocks = _model("gemma3"), _blocks("gemma3")
    Rotary.of(model)
    queries = [tiny.ids(10, seed=seed) for seed in range(4)]
    alone = [compose(model, blocks, query, behind=HEAD, policy="query_aware", share=0.2) for query in queries]
    found: dict[int, Composed] = {}

    def work(number: int) -> None:
        found[number] = compose(model, blocks, queries[number], behind=HEAD, policy="query_aware", share=0.2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for number, expected in enumerate(alone):
        pairs = zip(_tensors(found[number].prefix), _tensors(expected.prefix), strict=True)
        assert all(_gap(one, other) <= EXACT for one, other in pairs)
