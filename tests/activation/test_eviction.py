"""Who leaves when space is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.activation.eviction import GreedyDual, Held, score, victims


def test_what_saves_more_a_byte_is_worth_more() -> None:
    """The score rises with uses and saved seconds, falls with bytes, and stands on the clock."""
    plain = score(hits=1, saved_s=1.0, size_bytes=100)
    assert score(hits=2, saved_s=1.0, size_bytes=100) == 2 * plain
    assert score(hits=1, saved_s=3.0, size_bytes=100) == pytest.approx(3 * plain)
    assert score(hits=1, saved_s=1.0, size_bytes=200) == plain / 2
    assert score(hits=1, saved_s=1.0, size_bytes=100, clock=5.0) == 5.0 + plain


def test_the_least_worth_leave_first_and_no_more_than_needed() -> None:
    """Victims come in order of worth, the one used longest ago first among equals, until enough is free."""
    held = [
        Held("dear", 10, 9.0, used=1),
        Held("late", 10, 1.0, used=5),
        Held("early", 10, 1.0, used=2),
        Held("cheap", 10, 0.5, used=9),
    ]
    assert [one.key for one in victims(held, 11) or []] == ["cheap", "early"]
    assert [one.key for one in victims(held, 30) or []] == ["cheap", "early", "late"]
    assert victims(held, 0) == []
    assert victims(held, 41) is None


def test_pinned_never_leaves() -> None:
    """What is pinned is no victim, however little it is worth; where only that is left, there are none."""
    held = [Held("pin", 10, 0.0, used=0, pinned=True), Held("dear", 10, 9.0, used=1)]
    assert [one.key for one in victims(held, 5) or []] == ["dear"]
    assert victims(held, 15) is None


def test_a_budget_holds_what_is_used() -> None:
    """What was used stays, what was not leaves for what is new, and sums follow."""
    tier: GreedyDual[str] = GreedyDual(30)
    for key in "abc":
        assert tier.add(key, 10, 1.0) == []
    tier.use("a")
    tier.use("c")
    assert tier.add("d", 10, 1.0) == ["b"]
    assert "b" not in tier
    assert tier.size_bytes == 30
    assert set(tier.keys()) == {"a", "c", "d"}


def test_a_large_one_pushes_out_several_small_ones() -> None:
    """Bytes are freed until the new one fits."""
    tier: GreedyDual[str] = GreedyDual(30)
    for key in "abc":
        tier.add(key, 10, 1.0)
    assert tier.add("d", 20, 1.0) == ["a", "b"]
    assert tier.size_bytes == 30


def test_what_cannot_be_held_pushes_nothing_out() -> None:
    """One larger than the budget, or than what is not pinned, is refused and all else stays."""
    tier: GreedyDual[str] = GreedyDual(30)
    tier.add("a", 20, 1.0, pinned=True)
    tier.add("b", 10, 1.0)
    assert tier.add("c", 31, 1.0) is None
    assert tier.add("c", 11, 1.0) is None
    assert set(tier.keys()) == {"a", "b"}
    tier.pin("a", pinned=False)
    assert tier.add("c", 11, 1.0) is not None


def test_old_fame_fades() -> None:
    """What was used often, but long ago, leaves at last: the clock rises with each that leaves."""
    tier: GreedyDual[str] = GreedyDual(30)
    tier.add("famous", 10, 1.0)
    for _ in range(5):
        tier.use("famous")
    left: list[str] = []
    for turn in range(40):
        left += tier.add(f"n{turn}", 10, 1.0) or []
        if "famous" in left:
            break
    assert "famous" in left
    assert 2 < len(left) < 40


def test_nothing_is_held_without_a_budget() -> None:
    """A budget of 0 holds nothing and refuses all."""
    tier: GreedyDual[str] = GreedyDual(0)
    assert tier.add("a", 1, 1.0) is None
    assert len(tier) == 0


@given(
    budget=st.integers(0, 60),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "use", "drop", "pin", "unpin"]),
            st.integers(0, 6),
            st.integers(1, 40),
            st.floats(0.001, 10.0),
        ),
        max_size=60,
    ),
)
def test_sums_hold_whatever_happens(budget: int, steps: list[tuple[str, int, int, float]]) -> None:
    """In any order of events the bytes add up within the budget, and what is pinned is still there."""
    tier: GreedyDual[int] = GreedyDual(budget)
    pinned: set[int] = set()
    for what, key, size_bytes, saved_s in steps:
        if what == "add":
            before = set(tier.keys()) - {key}
            out = tier.add(key, size_bytes, saved_s)
            pinned.discard(key)
            assert set(tier.keys()) == (before if out is None else before - set(out) | {key})
        elif what == "drop":
            tier.drop(key)
            pinned.discard(key)
        elif key in tier:
            if what == "use":
                tier.use(key)
            else:
                tier.pin(key, pinned=what == "pin")
                pinned = pinned | {key} if what == "pin" else pinned - {key}
        tier.check_integrity()
        assert pinned <= set(tier.keys())
        assert all(tier.is_pinned(one) == (one in pinned) for one in sorted(tier.keys()))
