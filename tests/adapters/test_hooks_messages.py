"""The messages of any loop: read for their words, and handed back of the kind and shape they came in."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from memos_adapters._text import rendered
from memos_adapters.hooks.messages import at_hand, identified, last_question, to_engine, with_memories
from memos_engine import BadInput, BadTime, Context, Message

BLOCK = "<memories>\n8 May 2023\n1 Ann: I keep quokkas\n</memories>"
TOLD = f"{rendered(BLOCK)}\n\n"
EVERYBODY = frozenset({"user", "assistant", "system", "tool"})
PNG = base64.b64encode(bytes(range(256)) * 3).decode()
PNG_HASH = hashlib.sha256(bytes(range(256)) * 3).hexdigest()

SAID: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("the engine's own", Message("user", "hello"), [("user", "hello")]),
    ("text", {"role": "user", "content": "hello"}, [("user", "hello")]),
    ("parts", {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
     [("user", "a\nb")]),
    ("parts of a response", {"type": "message", "role": "assistant",
                             "content": [{"type": "output_text", "text": "a"}]}, [("assistant", "a")]),
    ("bare strings", {"role": "user", "content": ["a", "b"]}, [("user", "a\nb")]),
    ("a refusal", {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, [("assistant", "no")]),
    ("parts without types", {"role": "model", "parts": [{"text": "a"}, {"inline_data": {"data": PNG}}]},
     [("assistant", "a")]),
    ("a call of a tool", {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}, []),
    ("an item that is a call", {"type": "function_call", "name": "f", "arguments": "{}"}, []),
    ("reasoning", {"type": "reasoning", "summary": []}, []),
    ("what a tool answered", {"role": "tool", "content": "42", "tool_call_id": "c1"}, [("tool", "42")]),
    ("an item that is an answer", {"type": "function_call_output", "call_id": "c1", "output": "42"}, [("tool", "42")]),
    ("an answer in a user's message",
     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text",
                                                                                         "text": "42"}]}]},
     [("tool", "42")]),
    ("thinking", {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
                                                   {"type": "text", "text": "a"}]}, [("assistant", "a")]),
    ("an image by its bytes", {"role": "user", "content": [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
     [("user", f"look\n[image image/png sha256:{PNG_HASH}]")]),
    ("an image of another API", {"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
     [("user", f"[image image/png sha256:{PNG_HASH}]")]),
    ("an image by its address", {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.y/z.png"}]},
     [("user", "[image https://x.y/z.png]")]),
    ("a sound", {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}]},
     [("user", f"[audio wav sha256:{PNG_HASH}]")]),
    ("text in an address", {"role": "user", "content": [{"type": "file", "file": {
        "filename": "a.txt", "file_data": "data:text/plain,hello"}}]}, [("user", "[file text/plain a.txt]")]),
    ("a part that is no part", {"role": "user", "content": [{"type": ["text"], "text": "a"}, 7, None]},
     [("user", "a")]),
    ("one part alone", {"role": "user", "content": {"type": "text", "text": "a"}}, [("user", "a")]),
    ("a file by its id", {"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]},
     [("user", "[file f1]")]),
    ("an object", SimpleNamespace(role="assistant", content="a", tool_calls=None), [("assistant", "a")]),
    ("a developer", {"role": "developer", "content": "be kind"}, [("system", "be kind")]),
    ("LangChain's", HumanMessage("hello"), [("user", "hello")]),
    ("LangChain's answer", AIMessage([{"type": "text", "text": "a"}]), [("assistant", "a")]),
    ("LangChain's tool", ToolMessage("42", tool_call_id="c1"), [("tool", "42")]),
    ("LangChain's prompt", SystemMessage("be kind"), [("system", "be kind")]),
    ("memories alone", {"role": "user", "content": rendered(BLOCK)}, []),
    ("memories and words", {"role": "user", "content": f"{TOLD}hello"}, [("user", "hello")]),
    ("nothing", {"role": "user"}, []),
    ("another role", {"role": "narrator", "content": "once"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("case", "message", "said"), SAID, ids=[row[0] for row in SAID])
def test_words_are_read(case: str, message: object, said: list[tuple[str, str]]) -> None:
    """The table of messages, who speaks in each, and what is said."""
    assert [(turn.role, turn.text) for turn in to_engine([message], EVERYBODY)] == said


def test_ids_names_and_times_are_kept() -> None:
    """Whatever names a message, and when it was said, goes with it; numbers serve as ids."""
    at = datetime(2025, 1, 1, tzinfo=UTC)
    messages = [
        Message("user", "a", "m1", "Ann", at),
        {"role": "user", "content": "b", "id": 7, "name": "Ann"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "42"}]},
        {"role": "user", "content": "c", "id": None, "name": 8},
    ]
    assert to_engine(messages, EVERYBODY) == [
        Message("user", "a", "m1", "Ann", at),
        Message("user", "b", "7", "Ann"),
        Message("tool", "42", "c1"),
        Message("user", "c"),
    ]
    with pytest.raises(BadTime):
        to_engine([Message("user", "a", at=datetime(2025, 1, 1))], EVERYBODY)  # noqa: DTZ001 -- naive on purpose


def test_only_asked_roles_are_read() -> None:
    """Tools' answers are read when tools are asked for, wherever an API puts them."""
    messages = [message for _, message, _ in SAID]
    assert {turn.role for turn in to_engine(messages, frozenset({"user", "assistant"}))} == {
        "user",
        "assistant",
    }
    assert [turn.text for turn in to_engine(messages, frozenset({"tool"}))] == ["42"] * 4


@pytest.mark.parametrize(
    "wrong", [7, None, "hello", {}, {"content": "a"}, {"role": 7, "content": "a"}, object()], ids=str
)
def test_what_is_no_message_is_refused(wrong: object) -> None:
    """A value without a role is refused before anything is read, with what a message looks like."""
    for read in (lambda: to_engine([wrong], EVERYBODY), lambda: with_memories([wrong], BLOCK)):
        with pytest.raises(BadInput, match="role"):
            read()


ASKED: list[tuple[str, Any, Any]] = [
    ("the engine's own", Message("user", "hello", "m1"), Message("user", f"{TOLD}hello", "m1")),
    ("text", {"role": "user", "content": "hello", "id": "m1"}, {"role": "user", "content": f"{TOLD}hello", "id": "m1"}),
    ("parts", {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}},
                                           {"type": "text", "text": "a", "x": 1}, {"type": "text", "text": "b"}]},
     {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}},
                                  {"type": "text", "text": f"{TOLD}a", "x": 1}, {"type": "text", "text": "b"}]}),
    ("parts of another API", {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
     {"role": "user", "content": [{"type": "input_text", "text": f"{TOLD}a"}]}),
    ("an image alone", {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
     {"role": "user", "content": [{"type": "text", "text": rendered(BLOCK)},
                                  {"type": "image_url", "image_url": {"url": "u"}}]}),
    ("an image alone, of another API", {"role": "user", "content": [{"type": "input_image", "image_url": "u"}]},
     {"role": "user", "content": [{"type": "input_text", "text": rendered(BLOCK)},
                                  {"type": "input_image", "image_url": "u"}]}),
    ("one part alone", {"role": "user", "content": {"type": "text", "text": "a"}},
     {"role": "user", "content": [{"type": "text", "text": f"{TOLD}a"}]}),
    ("bare strings", {"role": "user", "content": ["a"]}, {"role": "user", "content": [f"{TOLD}a"]}),
    ("parts without types", {"role": "user", "parts": [{"text": "a"}]},
     {"role": "user", "parts": [{"text": f"{TOLD}a"}]}),
    ("an object", SimpleNamespace(role="user", content="a", x=1),
     SimpleNamespace(role="user", content=f"{TOLD}a", x=1)),
    ("LangChain's", HumanMessage("a", id="m1"), HumanMessage(f"{TOLD}a", id="m1")),
]  # fmt: skip


@pytest.mark.parametrize(("case", "message", "told"), ASKED, ids=[row[0] for row in ASKED])
def test_memories_stand_right_before_the_words(case: str, message: object, told: object) -> None:
    """They are put into a copy of the last user message, which keeps its kind and shape, and come out again."""
    others: list[object] = [
        {"role": "user", "content": "earlier"},
        message,
        {"role": "assistant", "content": "late"},
    ]
    before = copy.deepcopy(others)
    shown = with_memories(others, Context(text=BLOCK))
    assert shown == [others[0], told, others[2]]
    assert type(shown[1]) is type(message)
    assert others == before
    assert shown[0] is others[0]
    assert to_engine(shown, EVERYBODY) == to_engine(others, EVERYBODY)
    assert last_question(shown) == last_question(others)


def test_nothing_is_put_in_without_memories_or_a_question() -> None:
    """An empty context, or a conversation without words of a user, leaves a plain copy."""
    asked = [{"role": "user", "content": "hello"}]
    assert with_memories(asked, Context()) == asked
    assert with_memories(asked, "") is not asked
    assert with_memories([{"role": "assistant", "content": "hello"}], BLOCK) == [
        {"role": "assistant", "content": "hello"}
    ]
    assert with_memories(list[dict[str, str]](), BLOCK) == []


def test_what_cannot_be_copied_is_told() -> None:
    """A user's message of a frozen kind is refused, with the cure."""
    frozen = dataclasses.make_dataclass("Frozen", ["role", "content"], frozen=True)
    with pytest.raises(BadInput, match="as a dict"):
        with_memories([frozen("user", "hello")], BLOCK)


def test_the_turn_at_hand() -> None:
    """It begins with the last user message that has words; without one it is all there is."""
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "tool", "content": "d"},
        {"role": "user", "content": " "},
    ]
    assert at_hand(messages) == messages[2:]
    assert at_hand(messages[1:2]) == messages[1:2]


words = st.sampled_from(["yes", "no", "ok"])
turns = st.lists(
    st.builds(Message, st.sampled_from(["user", "assistant"]), words, st.none() | words), max_size=12
)


@given(turns, turns)
def test_a_message_is_known_again(messages: list[Message], more: list[Message]) -> None:
    """Of a growing thread each message keeps its id, no two without one share one, and new ones are new."""
    first = identified(messages, whole_thread=True)
    again = identified([*messages, *more], whole_thread=True)
    assert again[: len(first)] == first
    made = [mine.id for mine, given_ in zip(again, [*messages, *more], strict=True) if given_.id is None]
    assert None not in made
    assert len(set(made)) == len(made)
    fresh = [mine.id for mine, given_ in zip(identified(messages, whole_thread=False), messages, strict=True)
             if given_.id is None]  # fmt: skip
    assert not set(fresh) & set(made)
