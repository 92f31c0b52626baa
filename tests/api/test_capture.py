"""What was said becomes memory: once, verbatim, in order, tied together, and found in any script."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_engine import (
    BadText,
    CaptureResult,
    IdempotencyConflict,
    MemCube,
    MemOS,
    Message,
    MessageConflict,
)
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

NINE = datetime(2025, 5, 8, 9, tzinfo=UTC)
TALK = [
    Message("user", "I moved to Lisbon in May.", id="m1", name="Melanie", at=NINE),
    Message("assistant", "How do you like it?", id="m2", at=NINE + timedelta(minutes=1)),
    Message("user", "Remember that I am allergic to peanuts.", id="m3", name="Melanie",
            at=NINE + timedelta(minutes=2)),
]  # fmt: skip


def edges(cube: MemCube) -> set[tuple[str, str, str]]:
    """Every edge of a cube by the texts of its ends."""
    with cube._shelf.file.read() as reader:
        texts = dict(reader.rows("SELECT n, text FROM items"))
        return {(texts[source], kind, texts[target]) for source, kind, target, _ in reader.all_edges()}


def state(cube: MemCube) -> tuple[object, ...]:
    """What must be equal when nothing was written."""
    stats = cube.stats()
    return stats.revision, stats.items, stats.edges, stats.vectors, tuple(cube.list(limit=1000))


def by_word(cube: MemCube, query: str) -> list[str]:
    """Episodes that keyword search finds for a query."""
    hits = cube.search(query, kinds=["episode"])
    return [hit.item.text for hit in hits if "keyword" in {reason.retriever for reason in hit.why}]


def test_ids_come_in_the_order_of_the_messages(cube: MemCube) -> None:
    """The result names the episode of each message in order, those captured before included."""
    cube.capture(TALK[1:2], thread="t")
    result = cube.capture(TALK, thread="t")
    assert [cube.get(id_).text for id_ in result.episodes] == [message.text for message in TALK]
    assert result.new == 2
    assert result.revision == cube.stats().revision


def test_nothing_to_capture_changes_nothing(cube: MemCube) -> None:
    """An empty list is no error and writes nothing."""
    assert cube.capture([]) == CaptureResult(())
    assert cube.stats().revision == 0


# Once


def test_an_id_is_captured_once(cube: MemCube) -> None:
    """Handing the same messages over again changes nothing and returns the same episodes."""
    first = cube.capture(TALK, thread="t")
    before = state(cube)
    again = cube.capture(TALK, thread="t")
    assert again.episodes == first.episodes
    assert (again.new, again.derived) == (0, ())
    assert state(cube) == before


def test_an_id_belongs_to_its_thread(cube: MemCube) -> None:
    """The same id in another thread is another message."""
    cube.capture(TALK[:1], thread="one")
    assert cube.capture([dataclasses.replace(TALK[0], text="something else")], thread="two").new == 1


def test_an_id_is_captured_once_by_many_threads(cube: MemCube) -> None:
    """Eight threads that hand over the same messages at once write each message once."""
    barrier = threading.Barrier(8)

    def capture(_number: int) -> CaptureResult:
        barrier.wait()
        return cube.capture(TALK, thread="t")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(capture, range(8)))
    assert sum(result.new for result in results) == len(TALK)
    assert len({result.episodes for result in results}) == 1
    assert cube.stats().by_kind["episode"] == len(TALK)
    assert cube.check().ok


def test_an_id_is_captured_once_over_restarts(tmp_path: Path) -> None:
    """A root that was closed and opened again knows what it captured."""
    results = []
    for _ in range(2):
        with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
            results.append(memos.cube("alice").capture(TALK, thread="t"))
    assert results[0].episodes == results[1].episodes
    assert results[1].new == 0


def test_a_message_twice_in_one_call_is_one_episode(cube: MemCube) -> None:
    """Equal messages with one id in one call become one episode that stands in both places."""
    result = cube.capture([TALK[0], TALK[1], TALK[0]], thread="t")
    assert result.new == 2
    assert result.episodes[0] == result.episodes[2]


@pytest.mark.parametrize("change", [{"text": "I moved to Porto."}, {"role": "assistant"}])
def test_an_id_with_other_content_is_refused(cube: MemCube, change: dict[str, Any]) -> None:
    """An id that comes back with other content is a conflict, and the new turns beside it are not stored."""
    cube.capture(TALK[:1], thread="t")
    before = state(cube)
    with pytest.raises(MessageConflict, match="id of its own"):
        cube.capture([TALK[1], dataclasses.replace(TALK[0], **change)], thread="t")
    assert state(cube) == before
    assert cube.check().ok


def test_an_id_with_two_contents_in_one_call_is_refused(cube: MemCube) -> None:
    """Two messages of one call that share an id and differ are a conflict."""
    with pytest.raises(MessageConflict):
        cube.capture([TALK[0], dataclasses.replace(TALK[1], id="m1")])
    assert cube.stats().items == 0


def test_a_corrected_turn_is_still_the_same_turn(cube: MemCube) -> None:
    """After an update of the episode's text its message may be handed over again as it was."""
    first = cube.capture(TALK, thread="t")
    cube.update(first.episodes[0], text="She moved to Lisbon in June.")
    cube.update(first.episodes[0], tags=["checked"])
    assert cube.capture(TALK, thread="t").new == 0


def test_a_turn_whose_time_was_taken_away_is_still_the_same_turn(cube: MemCube) -> None:
    """An episode without a time breaks neither a retry nor the turns that follow it."""
    first = cube.capture(TALK[:1], thread="t")
    cube.update(first.episodes[0], event_at=None)
    assert cube.capture(TALK[:2], thread="t").new == 1
    assert cube.check().ok


def test_an_episode_added_by_hand_does_not_break_capture(cube: MemCube) -> None:
    """An episode that `add` wrote without a time may be the last of the thread."""
    added = cube.add("said at some time", kind="episode")
    assert cube.get(added.id) == added
    assert cube.capture(TALK).new == 3


def test_the_whole_thread_needs_no_ids(cube: MemCube) -> None:
    """Messages without ids are captured once when the whole thread is handed over each time."""
    said = [Message("user", "Shall we?"), Message("assistant", "yes"), Message("user", "Sure?")]
    said.append(Message("assistant", "yes"))
    first = cube.capture(said, thread="t", whole_thread=True)
    assert first.new == 4, "two equal `yes` are two turns"
    assert first.episodes[1] != first.episodes[3]
    longer = cube.capture([*said, Message("assistant", "yes")], thread="t", whole_thread=True)
    assert longer.new == 1
    assert longer.episodes[:4] == first.episodes


def test_text_alone_makes_no_turn_the_same(cube: MemCube) -> None:
    """Without ids, key or whole thread every message is a new turn."""
    said = [Message("user", "yes", at=NINE)]
    assert cube.capture(said).new == 1
    assert cube.capture(said).new == 1
    assert cube.stats().by_kind["episode"] == 2


def test_an_idempotency_key_makes_a_retry_the_same_call(cube: MemCube) -> None:
    """A retry with the key and the same messages changes nothing and returns the same result."""
    said = [Message("user", "yes"), Message("user", "yes")]
    first = cube.capture(said, thread="t", idempotency_key="call-1")
    before = state(cube)
    assert cube.capture(said, thread="t", idempotency_key="call-1") == first
    assert state(cube) == before
    assert first.new == 2
    assert cube.capture(said, thread="t", idempotency_key="call-2").new == 2


def test_an_idempotency_key_is_one_call_over_threads(cube: MemCube) -> None:
    """Retries of one call that run at once store it once and all return the same."""
    barrier = threading.Barrier(6)

    def capture(_number: int) -> CaptureResult:
        barrier.wait()
        return cube.capture([Message("user", "yes")], idempotency_key="k")

    with ThreadPoolExecutor(6) as pool:
        results = set(pool.map(capture, range(6)))
    assert len(results) == 1
    assert cube.stats().by_kind["episode"] == 1


@pytest.mark.parametrize("thread", ["t", "other"])
def test_an_idempotency_key_of_another_call_is_refused(cube: MemCube, thread: str) -> None:
    """The key of one call cannot be used for other messages, nor for another thread."""
    cube.capture([Message("user", "yes")], thread="t", idempotency_key="k")
    before = state(cube)
    other = [Message("user", "no" if thread == "t" else "yes")]
    with pytest.raises(IdempotencyConflict, match="new key"):
        cube.capture(other, thread=thread, idempotency_key="k")
    assert state(cube) == before


# Forgotten


@pytest.mark.parametrize("whole_thread", [False, True])
def test_a_forgotten_turn_stays_forgotten(cube: MemCube, whole_thread: bool) -> None:
    """A turn that was forgotten is not captured again, and the result says which it was."""
    said = [Message("user", "my code is 4711", at=NINE), Message("user", "goodbye", at=NINE)]
    if not whole_thread:
        said = [dataclasses.replace(message, id=f"m{n}") for n, message in enumerate(said)]
    first = cube.capture(said, thread="t", whole_thread=whole_thread)
    cube.forget(first.episodes[0])
    before = state(cube)
    again = cube.capture(said, thread="t", whole_thread=whole_thread)
    assert again.episodes == first.episodes[1:]
    assert len(again.forgotten) == 1
    assert whole_thread or again.forgotten == ("m0",)
    assert state(cube) == before


def test_forgetting_with_sources_forgets_the_turn(cube: MemCube) -> None:
    """`sources=True` on a derived item erases its episode too, and keeps it from coming back."""
    result = cube.capture(TALK, thread="t")
    erased = cube.forget(result.derived[-1], sources=True)
    assert result.episodes[2] in erased.items
    assert cube.capture(TALK, thread="t").forgotten == ("m3",)
    assert not by_word(cube, "peanuts")
    assert cube.check().ok


def test_forgetting_a_turn_forgets_what_was_derived_from_it(cube: MemCube) -> None:
    """What came from the forgotten turn alone goes with it, and the chain of turns is closed again."""
    result = cube.capture([TALK[2], *TALK[:2]], thread="t")
    middle = cube.capture([Message("user", "And the weather?", id="m4", at=NINE)], thread="t")
    erased = cube.forget(result.episodes[1])
    assert set(erased.items) >= {result.episodes[1]}
    derived = [id_ for id_ in result.derived if id_ not in erased.items]
    assert all(cube.get(id_) for id_ in derived)
    assert (TALK[2].text, "next", TALK[1].text) in edges(cube)
    assert middle.new == 1
    assert cube.check().ok


# Order, sessions, edges


def test_one_call_or_one_by_one_is_the_same(memos: MemOS) -> None:
    """A thread captured turn by turn has the same edges as the one captured at once."""
    said = [
        dataclasses.replace(message, id=f"{message.id}-{day}", at=NINE + timedelta(days=day, minutes=minute))
        for day in range(3)
        for minute, message in enumerate(TALK)
    ]
    whole, single = memos.cube("whole"), memos.cube("single")
    whole.capture(said, thread="t")
    for message in said:
        single.capture([message], thread="t")
    assert edges(whole) == edges(single)
    kinds = {kind for _, kind, _ in edges(whole)}
    assert kinds == {"next", "same_session", "mentions", "derived_from"}


def test_edges_tie_a_turn_to_what_it_belongs_to(cube: MemCube) -> None:
    """A turn is followed by the next, stands in its session, and mentions whom it names."""
    cube.capture([*TALK, Message("assistant", "Noted, thanks Melanie!", at=NINE + timedelta(minutes=3))])
    found = edges(cube)
    assert (TALK[0].text, "next", TALK[1].text) in found
    assert (TALK[1].text, "next", TALK[2].text) in found
    sessions = {target for _, kind, target in found if kind == "same_session"}
    assert sessions == {"Conversation of 2025-05-08 09:00 UTC"}
    assert ("Noted, thanks Melanie!", "mentions", "Melanie") in found


def test_a_silence_begins_a_session(cube: MemCube) -> None:
    """Turns hours apart stand in two sessions of one chain, in one call or in two."""
    later = [dataclasses.replace(message, id=f"b{n}", at=NINE + timedelta(hours=5 + n))
             for n, message in enumerate(TALK[:2])]  # fmt: skip
    cube.capture([*TALK, later[0]], thread="t")
    cube.capture(later[1:], thread="t")
    found = edges(cube)
    assert len({target for _, kind, target in found if kind == "same_session"}) == 2
    assert (TALK[2].text, "next", later[0].text) in found
    assert (later[0].text, "same_session", "Conversation of 2025-05-08 14:00 UTC") in found


def test_threads_do_not_touch(cube: MemCube) -> None:
    """Turns of two threads are never neighbours."""
    cube.capture(TALK[:1], thread="one")
    cube.capture(TALK[1:2], thread="two")
    assert not [edge for edge in edges(cube) if edge[1] == "next"]


def test_a_missing_time_is_the_clocks(cube: MemCube, clock: FrozenClock) -> None:
    """A message without a time happened at the moment of capture, in the order of the call."""
    result = cube.capture([Message("user", "one"), Message("user", "two")])
    times = [cube.get(id_).event_at for id_ in result.episodes]
    assert times[0] == clock()
    assert times[1] is not None
    assert timedelta(0) < times[1] - clock() < timedelta(seconds=1)


@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)])
@pytest.mark.parametrize(
    "text", ["Tomorrow is next week, yesterday was last year.", "明天去北京，昨天和去年也去了。"]
)
def test_the_ends_of_time_are_taken(cube: MemCube, at: datetime, text: str) -> None:
    """Relative times at the first and the last day of the calendar do no harm."""
    result = cube.capture([Message("user", text, at=at)])
    assert cube.get(result.episodes[0]).event_at == at
    assert cube.search("yesterday 昨天")
    assert cube.recall("yesterday 昨天")


def test_derived_items_link_to_their_episode(cube: MemCube) -> None:
    """What the reader drafts points back to its turn, by edge and by source with a span."""
    result = cube.capture(TALK, thread="t")
    assert result.derived
    found = edges(cube)
    for id_ in result.derived:
        item = cube.get(id_)
        source = item.sources[0]
        said = next(message for message in TALK if message.id == source.message_id)
        assert (item.text, "derived_from", said.text) in found
        assert source.thread == "t"
        assert source.span is not None
        assert item.kind in ("fact", "preference", "note")


def test_an_episode_keeps_what_the_caller_said(cube: MemCube) -> None:
    """Role, speaker, thread, time, id and author stand on the episode."""
    item = cube.get(cube.capture(TALK, thread="t").episodes[0])
    assert (item.kind, item.role, item.speaker, item.thread) == ("episode", "user", "Melanie", "t")
    assert (item.event_at, item.sources[0].message_id, item.author) == (NINE, "m1", "root")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_text_is_verbatim(cube: MemCube, text: str) -> None:
    """Any text that is taken comes back equal; what is not taken is blank or no text."""
    try:
        result = cube.capture([Message("user", text)])
    except BadText:
        assert not text.strip() or "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text)
        return
    assert cube.get(result.episodes[0]).text == text


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["yes", "no"])), max_size=8))
def test_any_order_of_retries_stores_each_turn_once(memos: MemOS, calls: list[tuple[str, str]]) -> None:
    """However calls repeat, a cube holds the first content of each id, and a conflict changes nothing."""
    cube = memos.cube("fresh")
    known: dict[str, str] = {}
    for id_, text in calls:
        if known.setdefault(id_, text) == text:
            cube.capture([Message("user", text, id=id_)], thread="t")
        else:
            with pytest.raises(MessageConflict):
                cube.capture([Message("user", text, id=id_)], thread="t")
    kept = {item.sources[0].message_id: item.text for item in cube.list(kinds=["episode"])}
    memos.delete("fresh")
    assert kept == known


# Found at once


def test_what_was_captured_is_found_at_once(memos: MemOS, cube: MemCube) -> None:
    """The next recall, of this handle or another, holds what was captured."""
    other = memos.cube("alice")
    for number in range(20):
        cube.capture([Message("user", f"the {number}th word is quokka{number}")])
        assert other.search(f"quokka{number}")[0].item.text.endswith(f"quokka{number}")
        assert f"quokka{number}" in other.recall(f"quokka{number}").text


def test_threads_read_their_own_writes(cube: MemCube) -> None:
    """Threads that write and read at once each find what they wrote."""

    def work(number: int) -> bool:
        found = True
        for turn in range(10):
            cube.capture([Message("user", f"word w{number}x{turn}")], thread=f"t{number}")
            found = found and by_word(cube, f"w{number}x{turn}") == [f"word w{number}x{turn}"]
        return found

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert cube.check().ok


SCRIPTS: list[tuple[str, Sequence[str]]] = [
    ("我对花生过敏，五月搬到了里斯本。", ["花生", "敏", "搬", "里斯本", "五月"]),
    ("我喜歡貓和狗", ["貓", "狗", "喜歡"]),
    ("来週、京都へ引っ越します。猫が二匹います。", ["京都", "猫", "引っ越", "匹"]),
    ("コーヒーよりﾋﾞｰﾙが好き", ["コーヒー", "ビール", "好"]),
    ("저는 서울에서 커피를 마셔요", ["서울", "커피", "커"]),
    ("ฉันชอบแมวและหมา", ["แมว", "หมา"]),
    ("मुझे आम खाना पसंद है।", ["आम", "पसंद", "है"]),
    ("أحب القهوة السوداء", ["القهوة", "السوداء"]),
    ("كَتَبَ الطَّالِبُ", ["كَتَبَ", "الطَّالِبُ"]),
    ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
    ("Я живу в Лиссабоне", ["лиссабоне", "ЖИВУ"]),
    ("Ζω στην Αθήνα", ["αθήνα", "ΖΩ"]),
    ("She lives in LISBON", ["lisbon", "Lisbon", "Ｌｉｓｂｏｎ"]),
    ("ＩＢＭ　ｓｅｒｖｅｒ", ["ibm", "server"]),
    ("we met at the Café Zoë", ["cafe", "café", "cafe\u0301", "ZOE"]),
    ("we met at the cafe\u0301", ["café", "cafe"]),
    ("İstanbul'da Ağrı", ["istanbul", "İstanbul", "agrı"]),
    ("she was running and cooking", ["run", "cooks"]),
    ("the error is E1234 in v2.10.3", ["e1234", "v2.10.3"]),
    ("书名是《三体》 by Liu", ["三体", "体", "liu"]),
]


@pytest.mark.parametrize(("text", "queries"), SCRIPTS)
def test_keywords_are_found_in_any_script(cube: MemCube, text: str, queries: Sequence[str]) -> None:
    """A turn in any script is found by a word of it, by keyword, wherever in the sentence it stands."""
    cube.capture([Message("user", "Nothing of the sort was said here.")])
    cube.capture([Message("user", text)])
    for query in queries:
        assert by_word(cube, query) == [text], query
    assert by_word(cube, "xylophone") == []


@pytest.mark.parametrize(("text", "query"), [("我喜欢猫", "狗"), ("京都へ行く", "東京"), ("แมว", "หมา")])
def test_other_words_of_a_script_are_not_found(cube: MemCube, text: str, query: str) -> None:
    """Keyword search in scripts without spaces does not find what is not there."""
    cube.capture([Message("user", text)])
    assert by_word(cube, query) == []


# Much


def test_ten_thousand_messages_at_once(cube: MemCube) -> None:
    """One call takes ten thousand messages, in order, and finds the last of them."""
    said = [Message("user", f"turn {n} is about topic{n}", id=f"m{n}") for n in range(10_000)]
    result = cube.capture(said, thread="t")
    assert result.new == len(set(result.episodes)) == 10_000
    assert by_word(cube, "topic9999") == [said[-1].text]
    assert cube.get(result.episodes[1234]).text == said[1234].text
    assert cube.capture(said, thread="t").new == 0
    assert len(cube.forget(result.episodes[:500]).items) >= 500
    assert cube.check().ok


def test_a_crowd_of_speakers_at_once(cube: MemCube) -> None:
    """Names beyond what one SQL statement takes are kept too."""
    said = [Message("user", "hello", name=f"P{n}") for n in range(33_000)]
    assert cube.capture(said).new == 33_000
    assert cube.search("hello", speaker="P32999", limit=1)[0].item.speaker == "P32999"


CALLS: dict[str, Callable[[MemCube], object]] = {
    "plain": lambda cube: cube.capture(TALK, thread="t"),
    "whole_thread": lambda cube: cube.capture(TALK, thread="t", whole_thread=True),
    "idempotency_key": lambda cube: cube.capture(TALK, thread="t", idempotency_key="k"),
}


@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("second", CALLS)
def test_ids_hold_whichever_way_they_come(cube: MemCube, first: str, second: str) -> None:
    """A message with an id is captured once, whatever else the calls say."""
    CALLS[first](cube)
    CALLS[second](cube)
    assert cube.stats().by_kind["episode"] == len(TALK)
    assert cube.check().ok


def test_a_key_is_refused_for_other_messages_after_forget(cube: MemCube) -> None:
    """Forgetting what a call captured does not make its idempotency key free for other messages."""
    result = cube.capture([Message("user", "I live in Lisbon", id="1")], idempotency_key="k")
    cube.forget(result.episodes[0])
    with pytest.raises(IdempotencyConflict):
        cube.capture([Message("user", "The invoice number is 4711")], idempotency_key="k")
    assert cube.capture([Message("user", "I live in Lisbon", id="1")], idempotency_key="k") == result
