"""What of a conversation and of its memories fits into a prompt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from memos_adapters.llamaindex.window import newest_within, tokens_of, unseen, without
from memos_engine import Context, ContextSource, MemOS, Message

DAY = datetime(2025, 5, 1, tzinfo=UTC)


def words(text: str) -> int:
    """Count words."""
    return len(text.split())


def user(text: str) -> ChatMessage:
    """What the user says."""
    return ChatMessage(text)


def assistant(text: str) -> ChatMessage:
    """What the assistant says."""
    return ChatMessage(text, role=MessageRole.ASSISTANT)


def call(id_: str) -> ChatMessage:
    """The assistant's call of a tool; it costs one word."""
    return ChatMessage(
        role=MessageRole.ASSISTANT, blocks=[ToolCallBlock(tool_call_id=id_, tool_name="f", tool_kwargs="")]
    )


def result(id_: str) -> ChatMessage:
    """A tool's result; it costs three words."""
    return ChatMessage("found", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": id_})


def kept(messages: list[ChatMessage], budget: int) -> list[ChatMessage]:
    """The messages that fit."""
    return newest_within(((message, tokens_of(message, words)) for message in reversed(messages)), budget)


def test_all_is_kept_when_it_fits() -> None:
    """A conversation within the budget is left as it is, whoever begins it."""
    messages = [assistant("Welcome here"), user("one two"), assistant("three")]
    assert kept(messages, 5) == messages
    assert kept([], 5) == []


def test_the_oldest_turns_leave_first() -> None:
    """What is left begins with a user message and costs no more than the budget."""
    messages = [user("a b"), assistant("c d"), user("e f"), assistant("g h"), user("i")]
    assert kept(messages, 8) == messages[2:]
    assert kept(messages, 5) == messages[2:]
    assert kept(messages, 4) == messages[4:]


def test_the_last_turn_stays_even_when_it_costs_more() -> None:
    """A prompt without its question is none."""
    messages = [user("a"), user("b c d"), assistant("e f")]
    assert kept(messages, 1) == messages[1:]
    assert kept([assistant("a b c")], 1) == []


def test_a_result_never_stands_without_its_call() -> None:
    """A user message between a call and its result is no place to begin."""
    messages = [user("a"), call("1"), user("b"), result("1"), user("c")]
    assert kept(messages, 6) == messages[4:]
    assert kept(messages, 7) == messages


def test_tools_and_media_cost_tokens() -> None:
    """Calls, thoughts, arguments, documents and images are counted, not only texts."""
    message = ChatMessage(
        additional_kwargs={"a": "b c"},
        blocks=[
            TextBlock(text="one two"),
            ThinkingBlock(content="three"),
            ThinkingBlock(content="x", num_tokens=10),
            ToolCallBlock(tool_name="f", tool_kwargs={"a": 1}),
            CitableBlock(title="four", source="s", content=[TextBlock(text="five six")]),
        ],
    )
    assert tokens_of(message, words) == 2 + 1 + 10 + 2 + 3 + 3
    media = ChatMessage(blocks=[ImageBlock(url="https://a.b/c.png"), DocumentBlock(url="https://a.b/c.pdf")])
    assert tokens_of(media, words) == 256 + 2048


@given(
    st.lists(st.sampled_from(["user", "assistant", "call", "result"]), max_size=14),
    st.integers(min_value=0, max_value=20),
)
def test_whatever_was_said_the_rest_is_sound(kinds: list[str], budget: int) -> None:
    """The rest is an end of the conversation that begins at a turn and fits, unless the last turn alone does not."""
    open_calls: list[str] = []
    messages = []
    for n, kind in enumerate(kinds):
        if kind == "call":
            open_calls.append(str(n))
            messages.append(call(str(n)))
        elif kind == "result" and open_calls:
            messages.append(result(open_calls.pop()))
        else:
            messages.append(user("u v") if kind == "user" else assistant("a"))
    rest = kept(messages, budget)
    start = len(messages) - len(rest)
    assert rest == messages[start:]
    if sum(tokens_of(message, words) for message in messages) <= budget:
        assert start == 0
        return
    starts = [n for n in range(len(messages)) if is_start(messages, n)]
    if not starts:
        assert len([message for message in rest if message.role == MessageRole.USER]) <= 1
        return
    fitting = [n for n in starts if sum(tokens_of(message, words) for message in messages[n:]) <= budget]
    assert start == (fitting[0] if fitting else starts[-1])


def is_start(messages: list[ChatMessage], n: int) -> bool:
    """Whether a prompt may begin here: with the user, and with the call of every result."""
    called = {
        block.tool_call_id
        for message in messages[n:]
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    }
    answered = {message.additional_kwargs.get("tool_call_id") for message in messages[n:]} - {None}
    return messages[n].role == MessageRole.USER and answered <= called


def context(*rows: tuple[str, datetime | None]) -> Context:
    """A context as the engine lays it out, with one source per text, of messages m1, m2, ... of thread `t`."""
    lines, sources, last = ["<memories>"], {}, ""
    for handle, (text, at) in enumerate(rows, 1):
        date = "undated" if at is None else f"{at.day} May 2025"
        lines += [date] * (date != last) + [f"{handle} {text}"]
        sources[handle] = ContextSource(f"item{handle}", f"m{handle}", "t", None, at)
        last = date
    return Context("\n".join([*lines, "</memories>"]), sources=sources)


def test_lines_leave_with_the_dates_that_head_nothing_else() -> None:
    """A date stays while one of its lines does."""
    one = context(("1 May is", DAY), ("b", DAY), ("c", DAY.replace(day=2)), ("d", None))
    assert without(one, [1]) == "<memories>\n1 May 2025\n2 b\n2 May 2025\n3 c\nundated\n4 d\n</memories>"
    assert without(one, [1, 2]) == "<memories>\n2 May 2025\n3 c\nundated\n4 d\n</memories>"
    assert without(one, [3, 4]) == "<memories>\n1 May 2025\n1 1 May is\n2 b\n</memories>"
    assert without(one, []) == one.text
    assert without(one, [1, 2, 3, 4]) == ""


def test_only_what_stands_in_the_prompt_is_unseen() -> None:
    """Lines leave by thread and message id; parts of a long message belong to it."""
    one = context(("a", DAY), ("b", DAY))
    assert unseen(one, "t", {"m1"}) == "<memories>\n1 May 2025\n2 b\n</memories>"
    assert unseen(one, "other", {"m1"}) == one.text
    assert unseen(one, "t", {"m1", "m2"}) == ""


def test_a_layout_that_is_not_known_is_left_alone() -> None:
    """Too much is better than a wrong cut."""
    one = context(("a", DAY), ("b", DAY))
    odd = Context(one.text.replace("1 May 2025\n", ""), sources=one.sources)
    assert without(odd, [1]) == odd.text


@pytest.mark.parametrize("left_out", [{1}, {2, 3}, {1, 4}])
def test_the_engine_lays_contexts_out_as_expected(memos: MemOS, left_out: set[int]) -> None:
    """What the engine renders loses exactly the lines of the handles, so the layout is the one known here."""
    cube = memos.cube("alice")
    said = [(30, "Lisbon is sunny"), (1, "Lisbon is\nhilly"), (1, "Lisbon is old"), (2, "1 May in Lisbon")]
    for n, (day, text) in enumerate(said):
        at = datetime(2025, 5 - (day == 30), day, 12, n, tzinfo=UTC)
        cube.capture([Message("user", text, f"m{n}", at=at)], thread="t")
    cube.add("Lisbon, undated")
    found = cube.recall("What is Lisbon like?", min_score=0)
    lines = found.text.split("\n")
    handles = sorted(found.sources)
    assert len(handles) == 5
    text = without(found, left_out)
    for handle in handles:
        line = next(line for line in lines if line.startswith(f"{handle} ") and "Lisbon" in line)
        assert (line in text.split("\n")) == (handle not in left_out)
    assert text.startswith("<memories>\n")
    assert text.endswith("\n</memories>")
