"""When a passage becomes a block and when a block goes: arithmetic, hysteresis and budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memos_engine.schedule.promotion import (
    BREAK_EVEN,
    DEMOTE,
    INCUMBENT,
    PROMOTE,
    Candidate,
    Decision,
    Machine,
    Price,
    Standing,
    decide,
    uses_needed,
)

SMOLLM2 = Machine(360.0, 1.2e9, 25e9, bytes_per_token=46_080, head_tokens=60)
"""SmolLM2-135M on one core, as measured."""
LARGE_GPU = Machine(100_000.0, 1.5e9, 50e9, bytes_per_token=131_072, head_tokens=60)
"""An 8B model that reads 256 tokens in 2.6 ms; their int8 file of 17 MB takes 11 ms from the disk."""
MB = 1_000_000
FREE = 10**15
SMALL_CHANGE = 1.1

seconds = st.floats(0.0, 10.0, allow_nan=False)
use_counts = st.floats(0.0, 50.0, allow_nan=False)
prices = st.builds(Price, seconds, seconds, seconds)
sizes = st.integers(1, 100)
rises = st.floats(1.0, 10.0)
State = tuple[list[Candidate], list[Standing]]


@st.composite
def states(draw: st.DrawFn, most: int = 7) -> State:
    """Draw passages, of which some are blocks."""
    candidates: list[Candidate] = []
    standing: list[Standing] = []
    for n in range(draw(st.integers(0, most))):
        uses, price, size = draw(use_counts), draw(prices), draw(sizes)
        if draw(st.booleans()):
            candidates.append(Candidate((f"i{n}",), uses, 256, size, price))
        else:
            standing.append(Standing(f"b{n}", (f"i{n}",), uses, 256, size, price, pinned=draw(st.booleans())))
    return candidates, standing


def smollm2(uses: float, name: str = "i", tokens: int = 256) -> Candidate:
    """Return a passage as SmolLM2 would meet it."""
    size = tokens * 12_100
    return Candidate((name,), uses, tokens, size, SMOLLM2.price(tokens, size))


def block_of(passage: Candidate, *, pinned: bool = False, stale: bool = False) -> Standing:
    """Return the block that a passage became."""
    return Standing(
        f"b-{passage.items[0]}",
        passage.items,
        passage.uses,
        passage.tokens,
        passage.bytes,
        passage.price,
        pinned=pinned,
        stale=stale,
    )


def passage_of(block: Standing) -> Candidate:
    """Return what is left of a block that went: its text."""
    return Candidate(block.items, block.uses, block.tokens, block.bytes, block.price)


def applied(state: State, decisions: Sequence[Decision]) -> State:
    """Return the state in which all of the decisions were done."""
    candidates, standing = state
    made = {decision.items for decision in decisions if decision.op == "promote"}
    gone = {decision.block for decision in decisions if decision.op != "promote"}
    return (
        [one for one in candidates if one.items not in made]
        + [passage_of(one) for one in standing if one.block in gone],
        [one for one in standing if one.block not in gone]
        + [block_of(one) for one in candidates if one.items in made],
    )


def blocks_after(state: State, budget: int) -> set[tuple[str, ...]]:
    """Return the items of the blocks that there are once all is done."""
    return {one.items for one in applied(state, decide(*state, budget_bytes=budget))[1]}


def passages_of(state: State) -> list[Candidate | Standing]:
    """Return all passages, blocks last."""
    return [*state[0], *state[1]]


def passage_at(state: State, place: int) -> Candidate | Standing:
    """Return one passage; a place beyond the last is no example."""
    passages = passages_of(state)
    assume(place < len(passages))
    return passages[place]


def with_changed(state: State, one: Candidate | Standing, **changes: Any) -> State:
    """Return the state with other facts of one passage."""
    return (
        [dataclasses.replace(each, **changes) if each is one else each for each in state[0]],
        [dataclasses.replace(each, **changes) if each is one else each for each in state[1]],
    )


def with_uses(state: State, uses: Sequence[float]) -> State:
    """Return the state with other counts, by the number in the items' name."""
    candidates, standing = state
    return (
        [dataclasses.replace(one, uses=uses[int(one.items[0][1:])]) for one in candidates],
        [dataclasses.replace(one, uses=uses[int(one.items[0][1:])]) for one in standing],
    )


def test_the_arithmetic_of_the_docstring() -> None:
    """The documented seconds and uses follow from the documented rates."""
    price = SMOLLM2.price(256, 3_104_640)
    assert price.read_s == pytest.approx(0.711, abs=0.001)
    assert price.load_s == pytest.approx(0.111, abs=0.001)
    assert price.build_s == pytest.approx(0.893, abs=0.001)
    assert price.saved_s == pytest.approx(0.600, abs=0.001)
    assert uses_needed(price) == pytest.approx(2.60, abs=0.01)
    least = DEMOTE * price.build_s / price.saved_s
    assert math.log2(3 / least) == pytest.approx(2.0, abs=0.05)
    assert math.log2(10 / least) == pytest.approx(3.75, abs=0.05)
    in_three_days = sum(2 ** (-days / 7) for days in range(3))
    six_in_twenty_days = sum(2 ** (-4 * n / 7) for n in range(6))
    weekly_for_ever = 2.0
    assert weekly_for_ever < uses_needed(price) < min(in_three_days, six_in_twenty_days)


def test_a_hot_passage_becomes_a_block_and_the_reason_has_its_numbers() -> None:
    """Three uses suffice, two do not; the sentence tells uses, the uses needed, tokens and seconds."""
    assert decide([smollm2(2.0)], [], budget_bytes=FREE) == ()
    (made,) = decide([smollm2(3.0)], [], budget_bytes=FREE)
    assert (made.op, made.block, made.items) == ("promote", "", ("i",))
    for number in ("3.00 uses", "2.61", "256 tokens", "0.711 s", "0.111 s", "0.893 s"):
        assert number in made.reason


def test_a_block_goes_only_when_it_is_cold() -> None:
    """One use that is left keeps it, half a use does not; the sentence tells both numbers."""
    assert decide([], [block_of(smollm2(1.0))], budget_bytes=FREE) == ()
    (gone,) = decide([], [block_of(smollm2(0.5))], budget_bytes=FREE)
    assert (gone.op, gone.block) == ("demote", "b-i")
    for number in ("0.50 uses", "0.74", "256 tokens"):
        assert number in gone.reason


def test_where_loading_is_slower_than_reading_there_are_no_blocks() -> None:
    """On a large GPU a passage stays text however often it is used, and a block that stands goes."""
    price = LARGE_GPU.price(256, 17 * MB)
    assert price.load_s > price.read_s
    passage = Candidate(("i",), 1e9, 256, 17 * MB, price)
    assert decide([passage], [], budget_bytes=FREE) == ()
    (gone,) = decide([], [block_of(passage)], budget_bytes=FREE)
    assert gone.op == "demote"
    assert "loading it takes 0.0144 s, reading its 256 tokens only 0.00256 s" in gone.reason


def test_a_gain_within_the_error_of_the_rates_is_none() -> None:
    """Reading has to take half again what loading takes; a block that stands stays while it saves at all."""
    near = Candidate(("i",), 1e9, 256, MB, Price(1.0, 1.0 / BREAK_EVEN + 0.01, 1.0))
    assert decide([near], [], budget_bytes=FREE) == ()
    assert decide([], [block_of(near)], budget_bytes=FREE) == ()
    clear = dataclasses.replace(near, price=Price(1.0, 1.0 / BREAK_EVEN - 0.01, 1.0))
    assert [one.op for one in decide([clear], [], budget_bytes=FREE)] == ["promote"]


def test_a_block_has_to_be_beaten_clearly() -> None:
    """In a full budget another passage takes the place only when it saves INCUMBENT times as much."""
    held, budget = block_of(smollm2(5.0, "held")), smollm2(1.0).bytes
    assert decide([smollm2(5.0 * INCUMBENT - 0.1, "new")], [held], budget_bytes=budget) == ()
    gone, made = decide([smollm2(5.0 * INCUMBENT + 0.1, "new")], [held], budget_bytes=budget)
    assert (gone.op, gone.block, made.op, made.items) == ("demote", "b-held", "promote", ("new",))
    assert f"no room in {budget} bytes" in gone.reason
    assert "5.00 uses" in gone.reason


def test_a_stale_block_goes_first_and_pinned_or_not() -> None:
    """What nobody can use is no decision of cost, and leaves its room to others."""
    stale = block_of(smollm2(9.0, "old"), pinned=True, stale=True)
    cold = block_of(smollm2(0.1, "cold"))
    decisions = decide([smollm2(9.0, "new")], [cold, stale], budget_bytes=smollm2(1.0).bytes)
    assert [(one.op, one.items) for one in decisions] == [
        ("stale", ("old",)),
        ("demote", ("cold",)),
        ("promote", ("new",)),
    ]


def test_the_best_passage_is_first() -> None:
    """Passages come by what they save a byte."""
    decisions = decide([smollm2(uses, f"{uses}") for uses in (4.0, 9.0, 6.0)], [], budget_bytes=FREE)
    assert [one.items for one in decisions] == [("9.0",), ("6.0",), ("4.0",)]


@given(states(), st.integers(0, 300))
def test_done_and_decided_again_changes_nothing(state: State, budget: int) -> None:
    """Once all decisions are done, the same facts call for none."""
    after = applied(state, decide(*state, budget_bytes=budget))
    assert decide(*after, budget_bytes=budget) == ()


@given(states(), st.integers(0, 300))
def test_the_budget_holds_and_pinned_blocks_stay(state: State, budget: int) -> None:
    """What is not pinned fits beside what is; every decision has a reason with a number."""
    decisions = decide(*state, budget_bytes=budget)
    after = applied(state, decisions)[1]
    pinned = {one.block for one in state[1] if one.pinned}
    assert pinned <= {one.block for one in after}
    loose = sum(one.bytes for one in after if not one.pinned)
    assert loose <= max(0, budget - sum(one.bytes for one in after if one.pinned))
    assert all(any(letter.isdigit() for letter in one.reason) for one in decisions)


@given(states(), st.integers(0, 300), st.integers(0, 6), rises)
def test_more_uses_never_demote(state: State, budget: int, place: int, rise: float) -> None:
    """A passage that becomes or stays a block does so with more uses too."""
    one = passage_at(state, place)
    hotter = with_changed(state, one, uses=one.uses * rise)
    assert one.items not in blocks_after(state, budget) - blocks_after(hotter, budget)


@given(
    states(), st.integers(0, 300), st.integers(0, 6), st.tuples(seconds, seconds), st.integers(0, 50), rises
)
def test_more_cost_never_promotes(
    state: State, budget: int, place: int, more: tuple[float, float], larger: int, fall: float
) -> None:
    """A passage that stays text, or whose block goes, does so at any higher cost of its own."""
    one = passage_at(state, place)
    assume(not (isinstance(one, Standing) and one.pinned))
    price = Price(one.price.read_s / fall, one.price.load_s + more[0], one.price.build_s + more[1])
    dearer = with_changed(state, one, price=price, bytes=one.bytes + larger)
    assert one.items not in blocks_after(dearer, budget) - blocks_after(state, budget)


@given(states(), st.integers(0, 300), st.lists(st.floats(1 / SMALL_CHANGE, SMALL_CHANGE), min_size=14))
def test_small_changes_back_and_forth_never_flap(state: State, budget: int, changes: list[float]) -> None:
    """Counts that swing by a tenth move blocks at most until all is settled, and never in a circle."""
    base = {int(one.items[0][1:]): one.uses for one in passages_of(state)}
    swings = [[base.get(n, 0.0) * changes[n + part] for n in range(7)] for part in (0, 7)]
    seen = [frozenset(one.items for one in state[1])]
    for turn in range(40):
        now = with_uses(state, swings[turn % 2])
        state = applied(now, decide(*now, budget_bytes=budget))
        held = frozenset(one.items for one in state[1])
        if held != seen[-1]:
            assert held not in seen[1:], "a state came back"
            seen.append(held)
    assert len(seen) < 30


@given(use_counts, st.lists(st.floats(1 / SMALL_CHANGE, SMALL_CHANGE), min_size=1, max_size=20), prices)
def test_with_room_a_passage_changes_once_at_most(uses: float, changes: list[float], price: Price) -> None:
    """Whatever order small changes come in, a passage alone becomes a block or goes, not both."""
    state: State = ([Candidate(("i0",), uses, 256, 1, price)], [])
    ops = []
    for change in changes:
        now = with_uses(state, [uses * change])
        decisions = decide(*now, budget_bytes=FREE)
        ops += [one.op for one in decisions]
        state = applied(now, decisions)
    assert len(ops) <= 1


def test_the_constants_leave_a_gap() -> None:
    """Hysteresis is more than a name: what promotes is at least twice what demotes."""
    assert PROMOTE >= 2 * DEMOTE
    assert INCUMBENT > SMALL_CHANGE**2
