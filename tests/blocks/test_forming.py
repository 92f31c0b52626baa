"""How a passage grows around a turn: in a row, both ways, within its size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memos_engine import MemCube, MemOS
from memos_engine.blocks.forming import grown, passages_around
from memos_engine.items import MemoryItem
from memos_engine.testing.fakes import FrozenClock
from tests.blocks.hot import DAY, shelf_of, talk

lengths = st.lists(st.none() | st.integers(0, 60), min_size=9, max_size=9)


def around(sizes: list[int | None]) -> tuple[list[int], dict[int, MemoryItem]]:
    """Return refs in a row and the items among them that may be taken; None is one that may not."""
    items = {
        n: MemoryItem(f"i{n}", "c", "episode", "x" * size) for n, size in enumerate(sizes) if size is not None
    }
    return list(range(len(sizes))), items


def test_it_grows_to_both_sides_by_turns() -> None:
    """What follows first, then what came before, until the size is used up."""
    near, items = around([10] * 9)
    assert grown(near, items, 10) == [4]
    assert grown(near, items, 20) == [4, 5]
    assert grown(near, items, 30) == [3, 4, 5]
    assert grown(near, items, 1_000) == near


def test_an_end_on_one_side_leaves_the_room_to_the_other() -> None:
    """At the start of a session the passage grows forward only."""
    near, items = around([None, None, None, None, 10, 10, 10, 10, 10])
    assert grown([-1, -1, -1, -1, *near[4:]], items, 40) == [4, 5, 6, 7]


@given(lengths, st.integers(0, 200))
def test_it_is_a_row_within_its_size_that_could_not_grow(sizes: list[int | None], chars: int) -> None:
    """The middle one is always there; nothing that may not be taken is; what would still fit is not left out."""
    sizes[4] = sizes[4] or 1
    near, items = around(sizes)
    row = grown(near, items, chars)
    assert 4 in row
    assert row == list(range(row[0], row[-1] + 1))
    assert all(n in items for n in row)
    size = sum(len(items[n].text) for n in row)
    assert size <= max(chars, len(items[4].text))
    for beside in (row[0] - 1, row[-1] + 1):
        if beside in items:
            assert size + len(items[beside].text) > chars


def test_no_item_stands_in_two_passages(memos: MemOS, cube: MemCube, clock: FrozenClock) -> None:
    """What one hot turn took with it is not taken again; what a block holds is not taken at all."""
    turns = talk(cube, clock, lines=40)
    clock.advance(DAY)
    text = shelf_of(memos, cube).text
    hot = [(turns[n], 9.0 - n / 10) for n in (20, 21, 12, 13, 39)]
    with text.file.read() as reader:
        refs = dict(reader.rows("SELECT id, n FROM items"))
        formed = list(
            passages_around(
                reader, text.turns.follow(reader), hot, covered={refs[turns[11]]}, now=clock(), chars=600
            )
        )
    taken = [item.id for one in formed for item in one.passage.items]
    assert len(taken) == len(set(taken))
    assert turns[11] not in taken
    assert [one.uses for one in formed] == [7.0, 7.8, 5.1]
    assert {turns[n] for n in (12, 13, 20, 21, 39)} <= set(taken)
