"""Which memories stand in a prompt: passages once, lines once, never more than the budget; blocks push nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.parts import WITH_BLOCKS, Held, chosen_parts, usable
from memos_engine.chat.prompt import Part, Prompt
from memos_engine.items import BlockInfo, MemoryItem
from memos_engine.recall.passages import passage_of

DAY = datetime(2025, 5, 8, 9, tzinfo=UTC)
PLENTY = 10_000


def item(number: int, text: str = "", *, hours: int | None = None) -> MemoryItem:
    """The item i<number>, said so many hours after the first."""
    at = DAY + timedelta(hours=number if hours is None else hours)
    return MemoryItem(f"i{number:03}", "c", "episode", text or f"text {number}", speaker="Ann", event_at=at)


def held(name: str, items: Sequence[MemoryItem], *, made: int = 0) -> Held:
    """A block of items, whose tokens are its characters."""
    passage = passage_of(items)
    info = BlockInfo(
        id=name, items=tuple(each.id for each in items), model="m", tokens=len(passage.text), bytes=1, seconds=0.1,
        pinned=False, hits=0.0, made_at=DAY + timedelta(days=made), used_at=None,
    )  # fmt: skip
    return Held(info, passage)


def cost(parts: Sequence[Part]) -> int:
    """What parts cost by characters, delimiters included."""
    return sum(len(part.text) for part in parts) + (len(OPENING) + len(CLOSING) if parts else 0)


def test_lines_stand_in_order_of_time() -> None:
    """Without blocks all hits are one part, each day once."""
    parts = chosen_parts([item(3), item(1), item(30)], [], PLENTY, len)
    assert parts == (
        Part("8 May 2025\nAnn: text 1\nAnn: text 3\n9 May 2025\nAnn: text 30\n", ("i001", "i003", "i030")),
    )
    assert chosen_parts([], [], PLENTY, len) == ()


def test_a_hit_brings_its_whole_passage_once() -> None:
    """Two hits of one block stand there by its passage, in the order of its items; others by their lines."""
    block = held("b", [item(1), item(2), item(3)])
    parts = chosen_parts([item(3), item(9), item(1)], [block], PLENTY, len)
    assert [part.block for part in parts] == ["b", None]
    assert parts[0] == Part(block.passage.text, ("i001", "i002", "i003"), "b")
    assert parts[1].items == ("i009",)


def test_blocks_stand_in_the_order_they_were_made() -> None:
    """Whichever was found first: so that the same blocks stand in the same places again."""
    older, newer = held("z", [item(5)], made=1), held("a", [item(1)], made=2)
    for hits in ([item(1), item(5)], [item(5), item(1)]):
        assert [part.block for part in chosen_parts(hits, [newer, older], PLENTY, len)] == ["z", "a"]


def test_a_passage_that_does_not_fit_gives_its_line() -> None:
    """A hit whose passage is too long for what is left stands there by itself."""
    block = held("b", [item(1), item(2, "long " * 100)])
    budget = len(OPENING) + len(CLOSING) + 100
    line = (Part("8 May 2025\nAnn: text 1\n", ("i001",)),)
    assert chosen_parts([item(1)], [block], budget, len) == line
    assert chosen_parts([item(1)], [block], PLENTY, len, room_tokens=budget) == line
    assert chosen_parts([item(1)], [block], PLENTY, len)[0].block == "b"


def test_nothing_is_said_twice() -> None:
    """A line that stands in a passage, or that another hit has said, word for word on that day, is left out."""
    block = held("b", [item(1, "Same words."), item(2)])
    twins = [item(7, "Same words.", hours=1), item(2), item(8, "Other."), item(9, "Other.", hours=8)]
    parts = chosen_parts(twins, [block], PLENTY, len)
    assert [part.items for part in parts] == [("i001", "i002"), ("i008",)]


def test_a_long_hit_is_clipped() -> None:
    """When not even the best hit fits, its beginning stands there and says that it was cut."""
    budget = len(OPENING) + len(CLOSING) + 60
    parts = chosen_parts([item(1, "and so on " * 50), item(2, "also long " * 50)], [], budget, len)
    assert [part.items for part in parts] == [("i001",)]
    assert parts[0].text.endswith(" [...]\n")
    assert budget - 3 <= cost(parts) <= budget
    assert chosen_parts([item(1)], [], len(OPENING), len) == ()


def test_a_long_hit_that_a_block_holds_stands_there_whole() -> None:
    """What would be clipped is read as its block, where the room allows."""
    long = item(1, "and so on " * 50)
    budget = len(OPENING) + len(CLOSING) + 300
    block = held("b", [long])
    assert [part.block for part in chosen_parts([long], [block], budget, len)] == ["b"]
    assert chosen_parts([long], [block], budget, len, room_tokens=budget) == chosen_parts(
        [long], [], budget, len
    )


def test_items_apart() -> None:
    """For a server each item is a part of its own, in order of id, under its own date."""
    parts = chosen_parts([item(3), item(1)], [], PLENTY, len, apart=True)
    assert [part.items for part in parts] == [("i001",), ("i003",)]
    assert all(part.text.startswith("8 May 2025\n") for part in parts)


def test_blocks_of_a_search_that_is_restricted() -> None:
    """Where recall looked among some memories, a block that holds any other is not for this prompt."""
    infos = [held("b", [item(1), item(2)]).info, held("c", [item(3)]).info]
    hits = [item(1), item(3)]
    assert [info.id for info in usable(infos, hits, restricted=True)] == ["c"]
    assert usable(infos, hits, restricted=False) == infos


@pytest.mark.parametrize("apart", [True, False])
@given(
    order=st.permutations(range(8)),
    sizes=st.lists(st.integers(1, 80), min_size=8, max_size=8),
    budget=st.integers(1, 900),
    cuts=st.sets(st.integers(0, 8), max_size=3),
)
def test_blocks_push_nothing_out(
    apart: bool, order: list[int], sizes: list[int], budget: int, cuts: set[int]
) -> None:
    """Whatever blocks there are: all that stands there without them, each item once, within the budgets."""
    items = [item(n, f"{n}{'w' * size}") for n, size in enumerate(sizes)]
    bounds = sorted(cuts)
    blocks = [held(f"b{a}", items[a:b], made=a) for a, b in pairwise(bounds)]
    hits = [items[n] for n in order]
    without = chosen_parts(hits, [], budget, len, apart=apart)
    assert cost(without) <= budget
    parts = chosen_parts(hits, blocks, budget, len, apart=apart)
    assert cost(parts) <= WITH_BLOCKS * budget
    assert cost(chosen_parts(hits, blocks, budget, len, room_tokens=budget, apart=apart)) <= budget
    assert {id_ for part in without for id_ in part.items} <= {id_ for part in parts for id_ in part.items}
    ids = [id_ for part in parts for id_ in part.items]
    assert len(ids) == len(set(ids))
    texts = {each.info.id: each.passage.text for each in blocks}
    assert all(part.text == texts[part.block] for part in parts if part.block)
    best = items[order[0]]
    if budget >= len(OPENING) + len(CLOSING) + len(passage_of([best]).text):
        assert best.id in ids


def test_a_prompt_as_messages() -> None:
    """Memories stand at the head of the last message, between delimiters; without any there is nothing of them."""
    parts = chosen_parts([item(1)], [], PLENTY, len)
    last = Prompt((), parts, "Where?").messages()[-1]
    assert last.content == f"{OPENING}8 May 2025\nAnn: text 1\n</memories>\n\nWhere?"
    assert Prompt((), (), "Where?").messages()[-1].content == "Where?"
