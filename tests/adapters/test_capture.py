"""What a framework hands over, captured exactly once: whatever is in it, and however often it comes."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_adapters import _capture
from memos_adapters._capture import captured, said
from memos_adapters._text import TEMPLATE, rendered
from memos_engine import AccessDenied, MemCube, MemOS, Message, Scope
from memos_engine.testing.fakes import HashEmbedder

BLOCK = "<memories>\n8 May 2023\n1 Ann: I keep quokkas\n</memories>"


def texts(cube: MemCube) -> list[str]:
    """The episodes of a cube, oldest first."""
    return [item.text for item in reversed(cube.list(kinds=["episode"], limit=1_000))]


def test_blank_turns_are_none() -> None:
    """Nothing was said: no words, blanks, or recalled memories alone."""
    for text in ("", " \n\t ", rendered(BLOCK), f"  {BLOCK}\n"):
        assert list(said("user", text)) == []


def test_own_memories_are_no_words() -> None:
    """What was put into a turn is taken out; a turn is the same whether it was put in or not."""
    (plain,) = said("user", "  hello \n", id="m1")
    for template in (TEMPLATE, "Known: {memories}"):
        (told,) = said("user", f"{rendered(BLOCK, template)}\n\n  hello \n", id="m1", template=template)
        assert told == plain == Message("user", "hello", "m1")


def test_what_the_engine_refuses_is_mended(cube: MemCube) -> None:
    """NULs, lone surrogates, over-long and unspeakable ids and names lose no turn."""
    at = datetime(2025, 1, 1, tzinfo=UTC)
    odd = ["a\0b", "x" * 5_000, "\ud800", "new\nline", "", "  ", "\x7f", " blank around "]
    messages = [
        message
        for n, text in enumerate(odd)
        for message in said("user", f"turn {n} \0\udfff", id=text, name=text, at=at)
    ]
    assert len(messages) == len(odd)
    assert captured(cube, messages, "t").new == len(odd)
    assert texts(cube) == [f"turn {n} \ufffd\ufffd" for n in range(len(odd))]
    assert [message.id is None for message in messages] == [id_.strip() == "" for id_ in odd]
    assert messages[3].name == "new line"


def test_ids_that_look_alike_are_two(cube: MemCube) -> None:
    """Ids that differ in what the engine refuses are the ids of two messages, of the same words too."""
    ids = ["m", "m\0", "m\n", "m\x01", "\ud800", "\ud801", "x" * 401, "x" * 402]
    messages = [message for id_ in ids for message in said("user", "yes", id=id_)]
    assert len({message.id for message in messages}) == len(ids)
    assert captured(cube, messages, "t").new == len(ids)
    assert captured(cube, messages, "t").new == 0


@given(
    text=st.text(st.characters(codec=None), max_size=50),
    id_=st.none() | st.text(st.characters(codec=None), max_size=600),
    name=st.none() | st.text(st.characters(codec=None), max_size=600),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_turn_can_be_captured(cube: MemCube, text: str, id_: str | None, name: str | None) -> None:
    """Whatever a framework says, the engine takes it."""
    messages = list(said("user", text, id=id_, name=name))
    assert len(captured(cube, messages, "t").episodes) == len(messages)
    assert bool(messages) == bool(text.replace("\0", "\ufffd").strip())


def test_a_very_long_turn_comes_in_parts(cube: MemCube, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text beyond what the engine takes is captured whole, in order, once."""
    monkeypatch.setattr(_capture, "_PART_CHARS", 1_000)
    text = "".join(f"part {n} of it. " for n in range(300)).strip()
    messages = list(said("user", text, id="m1"))
    assert [message.id for message in messages] == ["m1", *(f"m1#{n}" for n in range(2, len(messages) + 1))]
    assert captured(cube, messages, "t").new == len(messages) == 5
    assert "".join(message.text for message in messages) == text
    assert captured(cube, list(said("user", text, id="m1")), "t").new == 0


def test_four_bytes_a_character_are_taken(cube: MemCube) -> None:
    """The longest part, of the widest characters, is within what the engine takes."""
    (first, second) = said("user", "\U0001f600" * (_capture._PART_CHARS + 1), id="m1")
    assert len(first.text.encode()) <= 4 * 2**20
    assert second.text == "\U0001f600"


def test_a_thread_is_captured_once(cube: MemCube) -> None:
    """Handed over whole after every turn, with ids or without, each message is captured once."""
    thread: list[Message] = []
    for n in range(4):
        thread += [Message("user", "yes"), Message("assistant", "yes", id=f"a{n}")]
        assert captured(cube, thread, "t").new == 2
        assert captured(cube, thread, "t").new == 0
    assert len(texts(cube)) == 8
    assert captured(cube, thread, "other").new == 8


def test_an_edited_message_is_captured_beside_the_first(cube: MemCube) -> None:
    """A message that comes back edited under its id is captured too, once, and the rest of its thread with it."""
    thread = [Message("user", f"turn {n}", id=f"m{n}") for n in range(9)]
    captured(cube, thread, "t")
    thread[3] = dataclasses.replace(thread[3], text="edited")
    thread[7] = dataclasses.replace(thread[7], role="assistant")
    thread += [Message("user", "no id"), Message("user", "new", id="m9")]
    result = captured(cube, thread, "t")
    assert result.new == 4
    assert len(result.episodes) == len(thread)
    assert captured(cube, thread, "t").new == 0
    assert sorted(texts(cube)) == sorted(
        [*(f"turn {n}" for n in range(9)), "turn 7", "edited", "no id", "new"]
    )
    thread[3] = dataclasses.replace(thread[3], text="turn 3")
    assert captured(cube, thread, "t").new == 0, "edited back, it is what was said first"


def test_two_messages_of_one_id_are_both_captured(cube: MemCube) -> None:
    """One call that names two messages alike keeps both, the first under the id."""
    twins = [Message("user", "one", id="m"), Message("user", "two", id="m"), Message("user", "one", id="m")]
    captured(cube, twins, "t")
    assert texts(cube) == ["one", "two"]
    assert captured(cube, twins, "t").new == 0


class CountingEmbedder(HashEmbedder):
    """Tells how many texts it was asked for."""

    asked = 0

    def embed(self, texts: list[str]) -> object:  # type: ignore[override] # -- counts, and passes on
        """Count, and embed."""
        self.asked += len(texts)
        return super().embed(texts)


def test_an_edit_costs_no_new_embedding_of_the_thread(tmp_path: object) -> None:
    """A long thread with an edited message is not embedded anew at each of its turns."""
    embedder = CountingEmbedder()
    with MemOS.open(f"{tmp_path}/root", embedder=embedder, background=False) as memos:  # type: ignore[arg-type] # -- as above
        cube = memos.cube("c")
        thread = [Message("user", f"turn {n}", id=f"m{n}") for n in range(200)]
        captured(cube, thread, "t")
        thread[100] = dataclasses.replace(thread[100], text="edited")
        captured(cube, thread, "t")
        embedder.asked = 0
        captured(cube, thread, "t")
        assert embedder.asked <= 2


def test_a_forgotten_turn_stays_forgotten(cube: MemCube) -> None:
    """What was forgotten is not captured again, edited or not, when its thread comes back."""
    thread = [Message("user", "secret", id="m1"), Message("user", "hello", id="m2")]
    result = captured(cube, thread, "t")
    cube.forget(result.episodes[0])
    assert captured(cube, thread, "t").new == 0
    edited = [dataclasses.replace(thread[1], text="edited"), thread[0]]
    beside = captured(cube, edited, "t")
    assert beside.new == 1
    cube.forget(beside.episodes[0])
    assert captured(cube, edited, "t").new == 0
    assert texts(cube) == ["hello"]


def test_several_threads_capture_one_conversation(cube: MemCube) -> None:
    """Captured from many threads at once, edits included, each message is there once."""
    thread = [Message("user", f"turn {n}", id=f"m{n}") for n in range(20)]
    edited = [*thread[:10], dataclasses.replace(thread[10], text="edited"), *thread[11:]]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: captured(cube, edited if n % 2 else thread, "t"), range(12)))
    assert sorted(texts(cube)) == sorted({*(f"turn {n}" for n in range(20)), "edited"})


def test_who_may_not_write_captures_nothing(memos: MemOS) -> None:
    """A cube that was shared to be read takes nothing, and says so."""
    own = memos.acting_as(Scope(user="alice")).cube("c")
    own.grant(Scope(user="bob"), "read")
    shared = memos.acting_as(Scope(user="bob")).cube("c", owner=Scope(user="alice"))
    with pytest.raises(AccessDenied):
        captured(shared, [Message("user", "hello", id="m")], "t")
    assert texts(own) == []
