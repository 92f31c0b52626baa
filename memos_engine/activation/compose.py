"""Blocks of memory, each encoded once, as one prefix that a model goes on from.

`compose` lays the blocks one behind another, finds what is exact as it stands, decides by the model's
measured rates how the rest is brought near to what reading all of it at once would give, and does it.
Blocks and prefixes are only read. It knows no items, no store and no text: which memories there are,
and in which order, is its caller's business; stable ones first make more of them exact.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from memos_engine.activation import recompute
from memos_engine.activation.chain import Chain
from memos_engine.activation.drift import Drift
from memos_engine.activation.layout import Layout, laid_out
from memos_engine.activation.plan import Costs, Method, Plan, Policy, decide
from memos_engine.activation.recompute import Draft
from memos_engine.activation.rope import Rotary
from memos_engine.activation.selection import attended, deviations, first_of_each, spread, top
from memos_engine.activation.values import KVBlock, Prefix
from memos_engine.errors import BadInput, BadLimit
from memos_engine.models.local import LocalModel

__all__ = ["Composed", "ErrorClass", "compose"]

ErrorClass: TypeAlias = Literal["exact", "rounded", "small", "moderate"]
"""How far answers are from those of full prefill.

`exact`: float rounding. `rounded`: a block that was kept in fewer bits stands where it was read, KL about
3e-5. `small`: recomputed in part. `moderate`: moved to their positions, little more.
With three memories of 256 tokens on SmolLM2-135M, KL to full prefill is 0.03 to 0.2 of what plain
concatenation costs where it is small, and 0.18 to 0.27 of it where it is moderate.
"""


@dataclass(frozen=True, eq=False, slots=True)
class Composed:
    """A prefix and what is still to be read: `model.generate(composed.rest, composed.prefix, ...)`."""

    prefix: Prefix
    rest: tuple[int, ...]
    """Tokens after the prefix. Empty when the query was read together with what was recomputed."""
    method: Method
    recomputed: int
    """Tokens of blocks whose keys and values were computed anew."""
    error_class: ErrorClass
    reason: str
    """Why this method, in a sentence."""
    estimated_s: float
    """What was expected until the first token of the answer, the rest included."""
    seconds: float
    """What composing took; the rest is not read yet."""


def compose(
    model: LocalModel,
    blocks: Sequence[KVBlock],
    query_ids: Sequence[int] = (),
    *,
    behind: Sequence[int] = (),
    policy: Policy = "auto",
    share: float = 0.15,
    first: int = 8,
    budget_s: float | None = None,
    chain: Chain[Prefix] | None = None,
    salt: str = "",
) -> Composed:
    """Put blocks behind one head, one after another, and a query behind them.

    Args:
        behind: Tokens before the first block, such as BOS or a system prompt: the one attention sink.
        policy: `auto` takes the exact prefix where there is one, else what should be best within
            `budget_s`; every other one is a method by name.
        share: Tokens of the context to compute anew, where the method does: 0.15 is 15 %.
        first: Tokens at the start of each block to compute anew, for `first_tokens`.
        budget_s: What composing and reading the query may take. None means: `share` of the tokens,
            unless full prefill is as fast.
        chain: Prefixes that were read before; the longest that fits is used. It is not changed.
        salt: The tenant's, of the chain.

    Raises:
        BadInput: A block is of another model, the policy is none, or the whole is too long.
        BadLimit: A number is out of its range.
        ModelFailed: The network cannot be run on it.
    """
    began = time.perf_counter()
    _require_sane(policy, len(query_ids), share, first, budget_s)
    refusal = Rotary.of(model).reason or recompute.refusal(model)
    layout = laid_out(model, blocks, query_ids, behind, refusal=refusal, chain=chain, salt=salt)
    plan = decide(
        policy,
        layout.size(),
        _costs(model),
        refusal=refusal,
        share=share,
        first=first,
        budget_s=budget_s,
    )
    prefix, recomputed = _done(model, layout, plan)
    return Composed(
        prefix=prefix,
        rest=layout.ids[len(prefix.ids) :],
        method=plan.method,
        recomputed=recomputed,
        error_class=_error_class(plan.method, rounded=_rounded(layout, prefix)),
        reason=plan.reason,
        estimated_s=plan.estimated_s,
        seconds=time.perf_counter() - began,
    )


def _done(model: LocalModel, layout: Layout, plan: Plan) -> tuple[Prefix, int]:
    """Make what was planned; return the prefix and how many stale tokens were computed anew."""
    if plan.method in ("exact", "full"):
        end = layout.exact_end if layout.held else len(layout.known.ids)
        return (_joined(model, layout, end) if layout.held else layout.known), 0
    if plan.method == "rerotated":
        return _joined(model, layout, layout.query_start), 0
    return _recomputed(model, layout, plan)


def _joined(model: LocalModel, layout: Layout, end: int) -> Prefix:
    """The first `end` tokens, as far as blocks hold them; the head is read where nothing does."""
    head = layout.known
    at, first = layout.placed[0]
    if at == 0 and not head.ids and len(first.ids) == end and _fits(model, first):
        return Prefix(first.ids, first.layers)  # it stands there as it is: going on from it copies it anyway
    if layout.fresh:
        read = layout.ids[layout.fresh.start : layout.fresh.stop]
        head = model.prefill(read, head if head.ids else None)
    draft = Draft(model, layout.ids[:end])
    _fill(model, draft, layout, head)
    return draft.finished()


def _fits(model: LocalModel, block: KVBlock) -> bool:
    """Tell whether a block's tensors are where, and of the dtype that, the model computes in."""
    keys = block.layers[0].keys
    return bool(keys.device == model.device and keys.dtype == model.network.dtype)


def _fill(model: LocalModel, draft: Draft, layout: Layout, head: Prefix) -> None:
    """Copy a head, and of every block what lies behind it, to where it stands."""
    known, end = len(head.ids), len(draft.ids)
    for layer, kv in enumerate(head.layers):
        draft.place(layer, 0, kv.keys, kv.values)
    for at, block in layout.placed:
        start, stop = max(known, at), min(end, at + len(block.ids))
        if start >= stop:
            continue
        part = slice(start - at, stop - at)
        move = Rotary.of(model).move(block.start + part.start, start, stop - start)
        for layer, kv in enumerate(block.layers):
            keys = move.keys(kv.keys[:, part].to(model.device), layer)
            draft.place(layer, start, keys, kv.values[:, part])


def _recomputed(model: LocalModel, layout: Layout, plan: Plan) -> tuple[Prefix, int]:
    """All tokens, the query included, in one forward over what is computed anew."""
    draft = Draft(model, layout.ids)
    _fill(model, draft, layout, layout.known)
    device = model.device
    fresh = _positions(layout.fresh, device)
    query = _positions(range(layout.query_start, len(layout.ids)), device)
    stale = [_positions(span, device) for span in layout.stale]
    rows, samples = _chosen(draft, plan, fresh, stale, query)
    run = torch.cat((fresh, rows, query))
    drift = Drift(run, stale, samples) if samples else None
    last = draft.run(run, drift=drift, logits=1 if len(query) else 0)
    return draft.finished(None if last is None else last[0]), len(rows)


def _chosen(
    draft: Draft, plan: Plan, fresh: Tensor, stale: list[Tensor], query: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The stale positions to compute anew, ascending, and by block those that are samples of its drift."""
    everything = torch.cat(stale)
    if plan.method == "first_tokens":
        return first_of_each(stale, plan.first), []
    if plan.method == "cacheblend":
        return top(everything, deviations(draft, fresh, everything), plan.chosen), []
    looked = math.ceil(draft.depth / 2)
    if plan.method == "query_aware":
        seen = attended(draft, fresh, query, layers=looked)
        scores = deviations(draft, fresh, everything).sqrt()
        return top(everything, scores if seen is None else scores * seen[everything], plan.chosen), []
    first = first_of_each(stale, plan.first)
    samples = [spread(block[plan.first :], plan.samples) for block in stale]
    rows = torch.cat((first, *samples))
    if plan.chosen:
        seen = attended(draft, fresh, query, layers=looked) if len(query) else None
        # of all: a layer that is exact for some and not for the samples would be moved wrongly
        scores = deviations(draft, fresh, everything) if seen is None else seen[everything]
        left = ~torch.isin(everything, rows)
        rows = torch.cat((rows, top(everything[left], scores[left], plan.chosen)))
    return rows.sort().values, samples


def _positions(span: range, device: torch.device) -> Tensor:
    return torch.arange(span.start, max(span.start, span.stop), device=device)


def _costs(model: LocalModel) -> Costs:
    """What the model's measured rates say of its forwards and copies."""
    rates = model.rates
    forwards = tuple((count, count / rate) for count, rate in sorted(rates.prefill_tokens_per_s.items()))
    decoder = model.network.get_decoder()
    weights = sum(weight.numel() for weight in decoder.parameters())
    weights -= model.network.get_input_embeddings().weight.numel()
    kinds = model.capabilities.layers
    heads = getattr(decoder.config, "num_attention_heads", 1)
    # 2 operations per weight and token; 2 for each of query times key and probability times value
    pair = 4 * heads * sum(kind.head_dim for kind in kinds) / (2 * max(weights, 1))
    last_count, last_s = forwards[-1]
    return Costs(
        forwards=forwards,
        pair_s=pair * last_s / last_count,
        place_s=model.capabilities.bytes_per_token / rates.copy_bytes_per_s,
        layers=max(len(kinds), 1),
    )


def _rounded(layout: Layout, prefix: Prefix) -> bool:
    """Tell whether a block of fewer bits stands in the prefix; what was read before is without."""
    known, end = len(layout.known.ids), len(prefix.ids)
    return any(block.rounded and at < end and at + len(block.ids) > known for at, block in layout.placed)


def _error_class(method: Method, *, rounded: bool) -> ErrorClass:
    if method in ("exact", "full"):
        return "rounded" if rounded else "exact"
    return "moderate" if method in ("rerotated", "first_tokens") else "small"


def _require_sane(policy: str, query: int, share: float, first: int, budget_s: float | None) -> None:
    if policy not in get_args(Method) and policy != "auto":
        known = ", ".join(map(repr, ("auto", *get_args(Method))))
        raise BadInput(f"policy={policy!r} is none of {known}.")
    if policy == "query_aware" and not query:
        raise BadInput("policy='query_aware' has no query: hand over its ids, or take another policy.")
    if not 0 < share <= 1:
        raise BadLimit(f"share={share!r} is no part of the context: it must be above 0 and at most 1.")
    if first < 1:
        raise BadLimit(f"first={first!r} must be at least 1.")
    if budget_s is not None and not budget_s > 0:
        raise BadLimit(f"budget_s={budget_s!r} must be above 0.")
