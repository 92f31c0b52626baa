"""What a run hands over to be captured, and the order in which an edited thread reaches memory."""

from __future__ import annotations

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from memos_adapters._capture import captured
from memos_adapters._identity import Memories
from memos_adapters._langchain_messages import handed_over
from memos_engine import MemCube, MemOS, Message, Scope


def texts(messages: list[AnyMessage], *, whole: bool = False) -> list[str]:
    """The words of what is handed over of these messages."""
    return [str(message.text) for message in handed_over(messages, "t1", whole=whole)]


SUMMARY = HumanMessage("summary", additional_kwargs={"lc_source": "summarization"})


def test_the_turn_at_hand_begins_with_the_users_words() -> None:
    """It is the last user message, what the same user said right before it, and all that followed."""
    turn: list[AnyMessage] = [
        HumanMessage("b"),
        HumanMessage("c"),
        AIMessage("d"),
        ToolMessage("e", tool_call_id="1"),
    ]
    assert texts([HumanMessage("x"), AIMessage("a"), *turn]) == ["b", "c", "d", "e"]
    assert texts([SUMMARY, *turn]) == ["b", "c", "d", "e"]
    assert texts([HumanMessage("x", name="bob"), HumanMessage("y", name="al"), *turn]) == ["b", "c", "d", "e"]
    assert texts([HumanMessage("x", name="al"), HumanMessage("y", name="al")]) == ["x", "y"]
    assert texts([SUMMARY, AIMessage("a")]) == ["summary", "a"], "without a question it is all there is"
    assert texts([]) == []
    assert texts([HumanMessage("x"), AIMessage("a"), *turn], whole=True) == ["x", "a", "b", "c", "d", "e"]


def test_messages_without_an_id_get_one() -> None:
    """In a thread by words and place among equals, though only the turn is handed over; else a new one."""
    said: list[AnyMessage] = [HumanMessage("yes"), AIMessage("ok", id="mine"), HumanMessage("yes")]
    whole = [message.id for message in handed_over(said, "t1", whole=True)]
    assert len(set(whole)) == 3
    assert whole[1] == "mine"
    assert [message.id for message in handed_over(said, "t1", whole=False)] == whole[2:]
    assert handed_over(said, "", whole=True)[0].id != handed_over(said, "", whole=True)[0].id
    assert [message.id for message in said] == [None, "mine", None]


def test_an_edited_message_is_captured_in_its_place(cube: MemCube) -> None:
    """What was said after an edited message comes after it, each once."""
    captured(cube, [Message("user", "I am Al.", "m1"), Message("assistant", "Hello.", "m2")], "t1")
    edited = [
        Message("user", "I am Bob.", "m1"),
        Message("assistant", "Hello Bob.", "m3"),
        Message("user", "Bye.", "m4"),
    ]
    for _ in range(2):
        captured(cube, edited, "t1")
    assert [item.text for item in reversed(cube.list(kinds=["episode"]))] == [
        "I am Al.",
        "Hello.",
        "I am Bob.",
        "Hello Bob.",
        "Bye.",
    ]


def test_memories_of_one_user(memos: MemOS) -> None:
    """Bound to a user, opened as one, or a cube: every call is for the same; else each call says whose it is."""
    assert Memories(memos, user_id="alice").of_one_user
    assert Memories(memos.acting_as(Scope(user="alice"))).of_one_user
    assert Memories(memos.cube("alice")).of_one_user
    assert not Memories(memos).of_one_user
    assert not Memories(memos, default_user="alice", agent_id="helper").of_one_user
