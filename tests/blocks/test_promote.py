"""Much used memories become blocks, cold ones text again, over days of a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from memos_engine import AccessDenied, KVBudgets, MemCube, MemOS, Message, Scope
from memos_engine.blocks.forming import PASSAGE_CHARS
from memos_engine.blocks.promote import BUILDS_MAX, machine_of, promote
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.errors import Conflict
from memos_engine.items import BlockInfo
from memos_engine.recall.passages import passage_of
from memos_engine.schedule import promotion
from memos_engine.store import block_rows
from memos_engine.testing.fakes import FrozenClock
from tests.blocks.hot import DAY, LARGE_GPU, SMOLLM2, PacedModel, covered, paced_model, shelf_of, talk, use


@pytest.fixture(scope="module")
def model() -> PacedModel:
    """A model as fast as SmolLM2 on one core."""
    return paced_model()


@pytest.fixture
def shelf(memos: MemOS, cube: MemCube) -> ActivationShelf:
    """The blocks of the cube."""
    return shelf_of(memos, cube)


def ops(shelf: ActivationShelf) -> Sequence[str]:
    """What the log tells, oldest first."""
    return [event.op for event in shelf.log(100)][::-1]


def test_uses_halve_as_fast_as_decisions_expect() -> None:
    """Those who count and those who decide mean the same half-life."""
    assert promotion.HALF_LIFE.total_seconds() == block_rows.HALF_LIFE_S


def test_a_memory_asked_for_often_becomes_a_block_with_its_neighbours(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """Three uses make a passage of turns in a row around it; the log tells the numbers; again, nothing is done."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]], times=2)
    assert promote(shelf, model) == ()
    use(shelf, [turns[5]], times=1)
    (event,) = promote(shelf, model)
    (info,) = shelf.blocks()
    assert (event.op, event.block, event.tokens, event.bytes) == ("promote", info.id, info.tokens, info.bytes)
    first = turns.index(info.items[0])
    assert list(info.items) == turns[first : first + len(info.items)]
    assert first < 5 < first + len(info.items) - 1
    assert (
        PASSAGE_CHARS - 200 < len(passage_of([cube.get(id_) for id_ in info.items]).text) < 2 * PASSAGE_CHARS
    )
    assert "3.00 uses expected, more than 2." in event.reason
    assert f"reading {info.tokens} tokens takes {info.tokens / 360:.3g} s" in event.reason
    (logged,) = shelf.log(10)
    assert (logged.op, logged.block, logged.reason) == ("promote", info.id, event.reason)
    assert info.hits == pytest.approx(3.0)
    assert not info.pinned
    assert promote(shelf, model) == ()
    found, misses = shelf.fetch(model, [info])
    assert list(found) == [info.id]
    assert misses == {}


def test_uses_of_one_day_every_week_never_suffice(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """Once a week is too rare for ever; once every four days is not: the fourth time makes a block."""
    turns = talk(cube, clock)
    for _ in range(10):
        clock.advance(7 * DAY)
        use(shelf, [turns[5]], times=1)
        assert promote(shelf, model) == ()
    clock.advance(100 * DAY)
    made = []
    for _ in range(5):
        clock.advance(4 * DAY)
        use(shelf, [turns[5]], times=1)
        made.append(len(promote(shelf, model)))
    assert made == [0, 0, 0, 1, 0]


def test_unused_for_weeks_it_is_text_again(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """It stays two weeks, goes in the third, keeps its text, is recalled as before, and the log says why."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]])
    promote(shelf, model)
    clock.advance(14 * DAY)
    assert promote(shelf, model) == ()
    before = cube.recall("number 5 of the harbour").text
    assert "number 5" in before
    clock.advance(7 * DAY)
    (event,) = promote(shelf, model)
    assert event.op == "demote"
    assert shelf.blocks() == []
    assert "0.38 uses expected, less than 0.65" in event.reason
    assert "read as text again" in event.reason
    assert (shelf.log(1)[0].op, shelf.log(1)[0].reason) == ("demote", event.reason)
    assert cube.recall("number 5 of the harbour").text == before
    assert not list((shelf.text.file.folder / "kv").glob("*.safetensors"))
    assert promote(shelf, model) == ()


def test_a_block_that_is_used_stays(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A use every week keeps it for ever, though that would not make it."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]])
    promote(shelf, model)
    for _ in range(20):
        clock.advance(7 * DAY)
        use(shelf, [turns[5]], times=1)
        assert promote(shelf, model) == ()
    assert ops(shelf) == ["promote"]


def test_an_edited_memory_is_stale_at_once_and_made_anew_once_settled(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """The update takes the block; an hour later, still hot, the new text is one, and before that only the rest."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]])
    promote(shelf, model)
    cube.update(turns[5], text="We met at the lighthouse, not at the harbour. " * 3)
    assert shelf.blocks() == []
    assert ops(shelf) == ["promote", "stale"]
    assert promote(shelf, model) == ()
    clock.advance(timedelta(hours=1))
    (event,) = promote(shelf, model)
    assert event.op == "promote"
    assert turns[5] in covered(shelf)
    assert ops(shelf) == ["promote", "stale", "promote"]


def test_an_unsettled_neighbour_ends_a_passage(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """What was edited a moment ago is not taken in, nor what lies behind it."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    cube.update(turns[6], text="It may still change. " * 4)
    use(shelf, [turns[5]])
    promote(shelf, model)
    assert covered(shelf) <= set(turns[:6])
    assert turns[5] in covered(shelf)


@pytest.mark.parametrize("visibility", ["private", "session"])
def test_what_is_not_for_everyone_never_enters_a_block(
    shelf: ActivationShelf,
    memos: MemOS,
    cube: MemCube,
    clock: FrozenClock,
    model: PacedModel,
    visibility: str,
) -> None:
    """However hot it is, alone or between others: whose block it stood in could read it."""
    turns = talk(cube, clock)
    cube.update(turns[6], visibility=visibility)  # type: ignore[arg-type] # -- one of the parameters
    alone = cube.add("The code of the safe is in the blue book. " * 12, visibility="private")
    clock.advance(DAY)
    use(shelf, [turns[5], turns[6], alone.id], times=9)
    assert promote(shelf, model)
    assert turns[5] in covered(shelf)
    assert not covered(shelf) & {*turns[6:], alone.id}


def test_a_block_goes_when_its_memory_becomes_private(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """The turns beside it are hot as before and make a block without it."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5], turns[4]])
    promote(shelf, model)
    cube.update(turns[5], visibility="private")
    assert shelf.blocks() == []
    promote(shelf, model)
    assert turns[4] in covered(shelf)
    assert turns[5] not in covered(shelf)


def test_the_open_end_of_a_running_session_waits(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """Turns of the last hour stay out; the older ones of the same session do not; later all may be taken."""
    turns = talk(cube, clock, lines=40)
    clock.advance(timedelta(minutes=20))
    use(shelf, [turns[5]])
    assert promote(shelf, model) == ()
    clock.advance(timedelta(minutes=47, seconds=30))  # turns 0 to 7 are an hour old
    promote(shelf, model)
    assert covered(shelf) == set(turns[:8])
    clock.advance(DAY)
    use(shelf, [turns[8]])
    promote(shelf, model)
    assert turns[8] in covered(shelf)


def test_passages_do_not_cross_sessions(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A talk of the next day in the same thread is another passage."""
    first = talk(cube, clock, lines=4)
    clock.advance(DAY)
    second = talk(cube, clock, lines=4)
    clock.advance(DAY)
    use(shelf, [first[3]])
    promote(shelf, model)
    assert covered(shelf) == set(first)
    use(shelf, [second[0]])
    promote(shelf, model)
    assert covered(shelf) == {*first, *second}
    assert len(shelf.blocks()) == 2


def test_items_alone_have_to_be_of_a_size(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A fact of a line and a document longer than half the context stay text; one between them is a block."""
    short = cube.add("Ann likes tea.", kind="fact")
    middle = cube.add("Ann likes tea, and she told us how she makes it. " * 10, kind="document")
    long = cube.add("Ann likes tea, and she told us how she makes it. " * 60, kind="document")
    clock.advance(DAY)
    use(shelf, [short.id, middle.id, long.id])
    use(shelf, [short.id], times=100)
    assert promote(shelf, model)
    assert covered(shelf) == {middle.id}


def test_what_ends_soon_stays_text(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A block of an item that ends within two weeks would not pay."""
    soon = cube.add("The market is open this week, by the old bridge. " * 10, ttl=timedelta(days=10))
    late = cube.add("The market is open this year, by the new bridge. " * 10, ttl=timedelta(days=300))
    clock.advance(DAY)
    use(shelf, [soon.id, late.id])
    promote(shelf, model)
    assert covered(shelf) == {late.id}
    clock.advance(timedelta(days=299, minutes=1))
    (event,) = promote(shelf, model)
    assert event.op == "stale"


def test_a_forgotten_memory_leaves_its_block_and_is_not_taken_again(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """The row, the file and the uses are gone; what is left of the passage is judged by itself."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]])
    promote(shelf, model)
    cube.forget(turns[5])
    assert shelf.blocks() == []
    assert promote(shelf, model) == ()
    assert ops(shelf) == ["promote", "forget"]


def test_two_models_have_their_own_blocks_and_one_lets_the_other_cool_down(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A hot memory is a block for each; the look of one also ends blocks of the other that nobody uses."""
    other = paced_model(seed=1)
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]])
    assert [event.op for event in promote(shelf, model)] == ["promote"]
    assert [event.op for event in promote(shelf, other)] == ["promote"]
    assert len(shelf.blocks()) == 2
    mine = shelf.blocks(model.key.digest)
    for _ in range(4):
        clock.advance(7 * DAY)
        shelf.used([mine[0].id], [turns[5]])
    events = promote(shelf, model)
    assert [event.op for event in events] == ["demote"]
    assert shelf.blocks()[0].id == mine[0].id


def test_where_loading_is_slower_nothing_is_made(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A machine that reads text faster than files makes no block, and lets go of those made on a slower one."""
    fast = paced_model(rates=LARGE_GPU)
    turns = talk(cube, clock)
    clock.advance(DAY)
    use(shelf, [turns[5]], times=50)
    assert promote(shelf, fast) == ()
    assert promote(shelf, model)
    (event,) = promote(shelf, fast)
    assert event.op == "demote"
    assert "loading it takes" in event.reason
    assert promote(shelf, fast) == ()


def test_pinned_blocks_stay(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """What somebody pinned is never judged."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    info = shelf.build(model, turns[3:6], reason="asked for", pinned=True)
    clock.advance(365 * DAY)
    assert promote(shelf, model) == ()
    assert [one.id for one in shelf.blocks()] == [info.id]


def test_the_budget_holds_and_the_better_passage_wins(
    memos: MemOS, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """With room for one block the hottest passage has it; a little more use elsewhere moves nothing, much more does."""
    wide = shelf_of(memos, cube)
    one, two = talk(cube, clock, thread="one"), talk(cube, clock, thread="two")
    clock.advance(DAY)
    use(wide, [one[5]], times=4)
    use(wide, [two[5]], times=5)
    sizes = [event.bytes for event in promote(wide, model)]
    assert len(sizes) == 2
    wide.drop([info.id for info in wide.blocks()], op="drop", reason="to begin again")
    shelf = ActivationShelf(wide.text, wide.tiers, KVBudgets(disk_bytes=int(max(sizes) * 1.5)))
    promote(shelf, model)
    assert two[5] in covered(shelf)
    use(shelf, [one[5]], times=4)
    assert promote(shelf, model) == ()
    use(shelf, [one[5]], times=4)
    assert [event.op for event in promote(shelf, model)] == ["demote", "promote"]
    assert one[5] in covered(shelf)
    assert two[5] not in covered(shelf)
    assert "no room" in shelf.log(2)[1].reason
    assert shelf.stats().disk_bytes <= shelf.budgets.disk_bytes
    assert promote(shelf, model) == ()


class InterruptedShelf(ActivationShelf):
    """Lets something happen just before it builds."""

    before_build: Callable[[], None] = staticmethod(lambda: None)

    def build(self, *args: object, **options: object) -> BlockInfo:
        """Build after whatever comes between."""
        self.before_build()
        return super().build(*args, **options)  # type: ignore[arg-type] # -- handed on as they are


def test_what_changes_meanwhile_is_passed_over(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A conflict while one passage is built costs that passage; the next one is made, the first later."""
    one, two = talk(cube, clock, thread="one"), talk(cube, clock, thread="two")
    clock.advance(DAY)
    use(shelf, [one[5]], times=5)
    use(shelf, [two[5]], times=4)
    busy = InterruptedShelf(shelf.text, shelf.tiers, shelf.budgets)
    conflicts = [Conflict("changed")]

    def conflict_once() -> None:
        if conflicts:
            raise conflicts.pop()

    busy.before_build = conflict_once
    assert [event.op for event in promote(busy, model)] == ["promote"]
    assert two[5] in covered(shelf)
    assert [event.op for event in promote(busy, model)] == ["promote"]
    assert one[5] in covered(shelf)


@pytest.mark.parametrize("change", ["forget", "hide", "end"])
def test_what_is_gone_or_hidden_meanwhile_is_passed_over(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel, change: str
) -> None:
    """A memory that somebody takes away between the decision and the block makes no error, and the next is made."""
    first, second = talk(cube, clock, thread="one"), talk(cube, clock, thread="two")
    clock.advance(DAY)
    use(shelf, [first[5]], times=5)
    use(shelf, [second[5]], times=4)
    beats: list[int] = []

    def somebody() -> None:
        beats.append(1)
        if len(beats) > 1:
            return
        if change == "forget":
            cube.forget(first[5])
        elif change == "hide":
            cube.update(first[5], visibility="private")
        else:
            cube.update(first[5], state="archived")

    events = promote(shelf, model, somebody)
    assert len(beats) == 2
    assert [event.op for event in events] == ["promote"]
    assert covered(shelf) & set(second)
    assert not covered(shelf) & set(first)


def test_a_block_that_was_asked_for_stays_for_a_while(
    cube: MemCube, clock: FrozenClock, shelf: ActivationShelf, model: PacedModel
) -> None:
    """Whoever makes a block means to use it: it goes when it was not used for weeks, not at the next look."""
    turns = talk(cube, clock)
    clock.advance(DAY)
    info = cube.activation.build(model, turns)
    assert promote(shelf, model) == ()
    clock.advance(7 * DAY)
    assert promote(shelf, model) == ()
    assert [each.id for each in cube.activation.list()] == [info.id]
    clock.advance(28 * DAY)
    assert [event.op for event in promote(shelf, model)] == ["demote"]


def test_what_was_written_as_it_is_need_not_settle(
    cube: MemCube, shelf: ActivationShelf, model: PacedModel
) -> None:
    """A document that was added is of no session that runs: it may become a block at once, an edited one later."""
    document = cube.add("The harbour, the boats and the nets of the bay. " * 30, kind="document")
    use(shelf, [document.id])
    assert [event.op for event in promote(shelf, model)] == ["promote"]
    cube.update(document.id, text="The harbour, and the boats. " * 40)
    use(shelf, [document.id])
    assert promote(shelf, model) == ()


def test_one_go_has_an_end_and_beats_before_each_block(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """At most BUILDS_MAX blocks at a time, the hottest first; called again, it goes on."""
    talks = [talk(cube, clock, thread=f"t{n}", lines=3) for n in range(BUILDS_MAX + 2)]
    clock.advance(DAY)
    for n, turns in enumerate(talks):
        use(shelf, turns[:1], times=3 + n)
    beats: list[int] = []
    events = promote(shelf, model, lambda: beats.append(len(shelf.blocks())))
    assert len(events) == BUILDS_MAX
    assert beats[:BUILDS_MAX] == list(range(BUILDS_MAX))
    assert not covered(shelf) & {turns[0] for turns in talks[:2]}
    assert len(promote(shelf, model)) == 2
    assert promote(shelf, model) == ()


def test_a_heartbeat_that_raises_ends_it_between_blocks(
    shelf: ActivationShelf, cube: MemCube, clock: FrozenClock, model: PacedModel
) -> None:
    """A lost lease stops the work at once; what was made stands."""
    for name in ("one", "two"):
        use(shelf, talk(cube, clock, thread=name)[5:6])
    clock.advance(DAY)
    left = [1]

    def beat() -> None:
        if not left:
            raise TimeoutError
        left.pop()

    with pytest.raises(TimeoutError):
        promote(shelf, model, beat)
    assert len(shelf.blocks()) == 1


def test_the_price_follows_the_rates(model: PacedModel) -> None:
    """The quickest measured prefill, the disk rather than the page cache, and the head count."""
    machine = machine_of(model)
    assert machine.tokens_per_s == max(SMOLLM2.prefill_tokens_per_s.values())
    assert machine.read_bytes_per_s == SMOLLM2.cold_read_bytes_per_s
    assert machine.copy_bytes_per_s == SMOLLM2.copy_bytes_per_s
    assert machine.bytes_per_token == model.capabilities.bytes_per_token
    assert machine.head_tokens > 0


def test_a_root_without_talks_has_nothing_to_do(shelf: ActivationShelf, model: PacedModel) -> None:
    """An empty cube is looked at without harm."""
    assert promote(shelf, model) == ()


def test_the_public_door_does_the_same(
    memos: MemOS, shelf: ActivationShelf, clock: FrozenClock, model: PacedModel
) -> None:
    """Who may write may ask for it; who may only read may not."""
    ann, bob = Scope(user="ann"), Scope(user="bob")
    cube = memos.acting_as(ann).cube("notes")
    turns = cube.capture(
        [Message("user", "The boat leaves at nine from the old harbour. " * 8, at=clock())]
    ).episodes
    cube.grant(bob, "read")
    clock.advance(DAY)
    use(shelf_of(memos, cube), turns)
    with pytest.raises(AccessDenied):
        memos.acting_as(bob).cube("notes", owner=ann).activation.promote(model)
    assert [event.op for event in cube.activation.promote(model)] == ["promote"]
    assert [info.items for info in cube.activation.list()] == [turns]
