"""How blocks become a prefix: which method, how many tokens are computed anew, how long it should take.

Pure decisions over sizes and measured rates; no tensor and no model. The order of quality is a measured
one: exact, full prefill, drift-corrected recomputation of more and of fewer tokens, re-rotation alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = ["Costs", "Method", "Plan", "Policy", "Size", "decide"]

Method: TypeAlias = Literal[
    "exact", "rerotated", "first_tokens", "query_aware", "cacheblend", "drift", "full"
]
Policy: TypeAlias = Literal["auto"] | Method

_SHORT_TOKENS = 64
"""So few stale tokens are read faster than they are moved, corrected and explained."""
_SHARES = (0.3, 0.15, 0.1, 0.05)
"""What `auto` tries within a latency budget, the best first."""
_FIRST_MAX = 4
_SPREAD_MAX = 16
"""First tokens and samples of one block: more tell no more about its drift."""
_SPREAD_PART = 2 / 3
"""At most so much of what is recomputed is spread over the blocks; the rest goes where the query looks."""
_MOVED = 3.0
"""Times the bytes of a block that re-rotation touches."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a composition."""

    context: int
    """All before the query."""
    query: int
    unread: int
    """All that full prefill would have to read: what is not exact yet, the query included."""
    fresh: int
    """At the head of the context, those that no block holds and that must be read in any case."""
    stale: tuple[int, ...]
    """By block, those that were encoded behind something else than what now stands before them."""

    @property
    def stale_total(self) -> int:
        """All that are not exact without recomputation."""
        return sum(self.stale)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds on this machine with this model."""

    forwards: tuple[tuple[int, float], ...]
    """Tokens of one forward without a past and its seconds, ascending; at least one."""
    pair_s: float
    """One token attending to one other in all layers."""
    place_s: float
    """Copying keys and values of one token."""
    layers: int

    def forward_s(self, rows: int, seen: float = 0.0) -> float:
        """One forward of `rows` tokens that each attend to `seen` on the average."""
        if rows <= 0:
            return 0.0
        return self._bare_s(rows) + rows * seen * self.pair_s

    def _bare_s(self, rows: int) -> float:
        """Between two measured lengths on the line through both; beyond, on the last line."""
        points = self.forwards
        if rows <= points[0][0] or len(points) == 1:
            tokens, seconds = points[0]
            return seconds * max(1.0, rows / tokens)
        at = next((i for i in range(1, len(points)) if rows <= points[i][0]), len(points) - 1)
        (x0, y0), (x1, y1) = points[at - 1], points[at]
        return max(y0, y0 + (rows - x0) * (y1 - y0) / (x1 - x0))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    method: Method
    estimated_s: float
    """Until the query has been read, so that the first token of the answer is known."""
    reason: str
    first: int = 0
    """First tokens of each stale block to recompute."""
    samples: int = 0
    """Of each stale block, evenly spread ones."""
    chosen: int = 0
    """Of all stale blocks together, the best by the method's score."""


def decide(
    policy: Policy,
    size: Size,
    costs: Costs,
    *,
    refusal: str,
    share: float,
    first: int,
    budget_s: float | None,
) -> Plan:
    """Choose the method.

    Args:
        refusal: Why the model cannot compose; "" when it can.
        share: Tokens of the context to recompute, where the policy does.
        first: Of each block, for `first_tokens`.
        budget_s: What the composition and reading the query may take. None means: spend `share`.
    """
    total = size.context + size.query
    full_s = costs.forward_s(size.unread, total - size.unread / 2)
    if not size.stale_total:
        return Plan("exact", full_s, "All blocks stand behind what they were read behind.")
    if refusal:
        return Plan("full", full_s, f"The model composes no blocks: {refusal}.")
    if policy in ("full", "exact"):
        return Plan("full", full_s, "Asked for: what is not exact is read again.")
    if policy != "auto":
        return _planned(policy, size, costs, share=share, first=first, reason="Asked for.")
    if size.stale_total <= _SHORT_TOKENS:
        return Plan("full", full_s, f"Only {size.stale_total} tokens would be composed.")
    if budget_s is None:
        reason = f"{share:.0%} of the tokens anew; full prefill would take {full_s:.3g} s."
        plan = _planned("drift", size, costs, share=share, reason=reason)
        if plan.estimated_s < full_s:
            return plan
        return Plan("full", full_s, f"Full prefill is not slower than {plan.estimated_s:.3g} s of composing.")
    return _within(budget_s, size, costs, full_s)


def _within(budget_s: float, size: Size, costs: Costs, full_s: float) -> Plan:
    """The best that should fit into a budget; the quickest where nothing does."""
    plans = [Plan("full", full_s, "")]
    plans += [_planned("drift", size, costs, share=share) for share in _SHARES]
    plans.append(_planned("rerotated", size, costs))
    fitting = next((plan for plan in plans if plan.estimated_s <= budget_s), None)
    chosen = fitting or min(plans, key=lambda plan: plan.estimated_s)
    told = "The best" if fitting else "Nothing fits: the quickest"
    reason = f"{told} for {budget_s:.3g} s; full prefill would take {full_s:.3g} s."
    return replace(chosen, reason=reason)


def _planned(
    method: Method, size: Size, costs: Costs, *, share: float = 0.0, first: int = 0, reason: str = ""
) -> Plan:
    """One method's plan, as it was asked for."""
    base_s = _rerotated_s(size, costs)
    if method == "rerotated":
        return Plan(method, base_s, reason)
    if method == "first_tokens":
        return _costed(Plan(method, 0.0, reason, first=first), size, costs)
    count = min(max(1, math.ceil(share * size.context)), size.stale_total)
    if method == "drift":
        first, samples, chosen = _shared_out(count, size.stale)
        return _costed(Plan(method, 0.0, reason, first, samples, chosen), size, costs)
    return _costed(Plan(method, 0.0, reason, chosen=count), size, costs)


def _shared_out(count: int, stale: Sequence[int]) -> tuple[int, int, int]:
    """Share out the tokens of a drift-corrected recomputation: first ones, samples, chosen ones."""
    each = min(_SPREAD_MAX, max(1, _level(int(count * _SPREAD_PART), stale)))
    first = min(_FIRST_MAX, (each + 1) // 3)
    return first, each - first, max(0, count - sum(min(each, tokens) for tokens in stale))


def _level(count: int, stale: Sequence[int]) -> int:
    """How many tokens every block can give, short ones all they have, so that `count` suffices."""
    level, left = 0, len(stale)
    for tokens in sorted(stale):
        if (tokens - level) * left > count:
            return level + count // left
        count -= (tokens - level) * left
        level, left = tokens, left - 1
    return level


def _rerotated_s(size: Size, costs: Costs) -> float:
    placed_s = (size.context + (_MOVED - 1) * size.stale_total) * costs.place_s
    head_s = costs.forward_s(size.fresh)
    return placed_s + head_s + costs.forward_s(max(size.query, 1), size.context)


def _costed(plan: Plan, size: Size, costs: Costs) -> Plan:
    """The plan with what it should take."""
    spread = sum(min(plan.first + plan.samples, tokens) for tokens in size.stale)
    rows = size.fresh + min(spread + plan.chosen, size.stale_total) + size.query
    seconds = (size.context + (_MOVED - 1) * size.stale_total) * costs.place_s
    # the query's own logits begin the answer; without one, the last token is read once more
    seconds += costs.forward_s(rows, size.context) + costs.forward_s(0 if size.query else 1, size.context)
    for layers, tokens in _looks(plan, size, costs):
        seconds += costs.forward_s(size.fresh + tokens, size.context) * layers / costs.layers
    return replace(plan, estimated_s=seconds)


def _looks(plan: Plan, size: Size, costs: Costs) -> Iterator[tuple[int, int]]:
    """Layers and tokens of the forwards that only score."""
    attends = plan.method == "query_aware" or (plan.method == "drift" and plan.chosen > 0)
    if attends and size.query:
        yield math.ceil(costs.layers / 2), size.query
    if plan.method in ("query_aware", "cacheblend") or (attends and not size.query):
        yield 1, size.stale_total
