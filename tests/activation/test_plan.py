"""Which method is chosen: pure decisions over sizes and rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.activation.plan import Costs, Method, Plan, Policy, Size, decide

# a slow machine: 40 ms for one forward, 2.5 ms for each token
SLOW = Costs(forwards=((16, 0.08), (64, 0.2)), pair_s=1e-6, place_s=1e-6, layers=30)
# one where reading is all but free and every forward costs the same
FAST = Costs(forwards=((16, 0.01), (4096, 0.0101)), pair_s=0.0, place_s=1e-3, layers=30)
THREE = Size(context=769, query=48, unread=560, fresh=1, stale=(256, 256))


def _decide(
    policy: Policy = "auto",
    size: Size = THREE,
    costs: Costs = SLOW,
    *,
    refusal: str = "",
    share: float = 0.05,
    first: int = 8,
    budget_s: float | None = None,
) -> Plan:
    return decide(policy, size, costs, refusal=refusal, share=share, first=first, budget_s=budget_s)


def _rows(plan: Plan, size: Size) -> int:
    return sum(min(plan.first + plan.samples, tokens) for tokens in size.stale) + plan.chosen


def test_without_a_budget_the_default_share_is_recomputed() -> None:
    """Where composing is quicker than full prefill, a share of the tokens is recomputed and drift corrected."""
    plan = _decide()
    assert plan.method == "drift"
    assert plan.samples >= 8
    assert plan.chosen >= 8
    assert _rows(plan, THREE) <= 0.05 * THREE.context + 1
    assert plan.estimated_s < SLOW.forward_s(THREE.unread)
    assert "5%" in plan.reason


def test_where_reading_is_free_everything_is_read() -> None:
    """A machine that reads faster than it copies gets full prefill, and is told why."""
    plan = _decide(costs=FAST)
    assert plan.method == "full"
    assert "not slower" in plan.reason


def test_a_short_text_is_read() -> None:
    """Up to 64 stale tokens are not worth composing."""
    assert _decide(size=Size(context=100, query=9, unread=73, fresh=0, stale=(40, 24))).method == "full"
    assert _decide(size=Size(context=100, query=9, unread=74, fresh=0, stale=(40, 25))).method != "full"


@pytest.mark.parametrize(
    ("budget_s", "method"),
    [(9.0, "full"), (1.0, "drift"), (0.6, "drift"), (0.3, "rerotated"), (1e-6, "rerotated")],
)
def test_a_budget_buys_the_best_that_fits(budget_s: float, method: Method) -> None:
    """The more time there is, the nearer the method is to full prefill; too little takes the quickest."""
    plan = _decide(budget_s=budget_s)
    assert plan.method == method
    assert plan.estimated_s <= budget_s or budget_s == 1e-6
    assert "Nothing fits" in plan.reason or budget_s > 1e-6


@given(st.floats(1e-3, 10.0), st.floats(1e-3, 10.0))
def test_more_time_never_buys_less(one: float, other: float) -> None:
    """Of two budgets the larger never recomputes fewer tokens."""
    less, more = (_decide(budget_s=budget_s) for budget_s in sorted((one, other)))

    def rows(plan: Plan) -> float:
        return float("inf") if plan.method == "full" else _rows(plan, THREE)

    assert rows(less) <= rows(more)


def test_nothing_stale_is_exact_under_every_policy() -> None:
    """Blocks that stand where they were encoded need no method, whatever is asked for."""
    size = Size(context=257, query=48, unread=48, fresh=1, stale=())
    policies: tuple[Policy, ...] = ("auto", "drift", "query_aware", "full", "rerotated", "exact")
    assert {_decide(policy, size).method for policy in policies} == {"exact"}


def test_a_model_that_cannot_compose_reads_with_the_reason() -> None:
    """A refusal wins over every policy but exactness, and is told."""
    plan = _decide("query_aware", refusal="its RoPE is 'dynamic'")
    assert plan.method == "full"
    assert "its RoPE is 'dynamic'" in plan.reason


def test_policies_by_name_are_done_as_asked() -> None:
    """A named method is planned with its own numbers, even where it is slower than full prefill."""
    assert _decide("first_tokens", first=8).first == 8
    assert _decide("cacheblend", share=0.15).chosen == 116
    assert _decide("query_aware", share=0.15).chosen == 116
    assert _decide("rerotated", costs=FAST).method == "rerotated"
    assert _decide("exact").method == "full"


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    st.floats(0.001, 1.0),
    st.sampled_from([0, 20]),
)
def test_drift_spends_its_share_and_not_more(stale: list[int], share: float, query: int) -> None:
    """At any sizes the tokens of a drift-corrected recomputation stay within the share; all of it is all."""
    total = sum(stale)
    size = Size(context=total, query=query, unread=total + query, fresh=0, stale=tuple(stale))
    plan = _decide("drift", size, share=share)
    assert plan.chosen >= 0
    assert _rows(plan, size) <= max(share * total + 1, len(stale))
    assert _rows(_decide("drift", size, share=1.0), size) == total


def test_costs_follow_the_measured_lengths() -> None:
    """Between measured lengths time is on the line through them, beyond on the last line; a look costs its layers."""
    costs = Costs(forwards=((10, 1.0), (20, 1.5), (40, 2.0)), pair_s=0.001, place_s=0.0, layers=10)
    assert costs.forward_s(0) == 0
    assert costs.forward_s(5) == 1.0
    assert costs.forward_s(15) == pytest.approx(1.25)
    assert costs.forward_s(60) == pytest.approx(2.5)
    assert costs.forward_s(10, seen=100) == pytest.approx(2.0)
    assert Costs(forwards=((10, 1.0),), pair_s=0.0, place_s=0.0, layers=1).forward_s(30) == 3.0


def test_estimates_grow_with_the_work() -> None:
    """More recomputed tokens, a look or a deviation pass are expected to take longer."""
    times = [
        _decide("first_tokens", first=8).estimated_s,
        _decide("cacheblend", share=0.05).estimated_s,
        _decide("query_aware", share=0.05).estimated_s,
        _decide("query_aware", share=0.3).estimated_s,
    ]
    assert times == sorted(times)
    assert _decide("drift", share=0.05).estimated_s < _decide("query_aware", share=0.05).estimated_s
    mute = replace(THREE, query=0, unread=512)
    assert _decide("drift", mute, share=0.05).estimated_s > _decide("first_tokens", mute, first=8).estimated_s
