"""A chat history: what was said comes back as it was, and becomes memory once, whatever fails between."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from memos_adapters._capture import captured as capture_into
from memos_adapters.langchain import MemosChatMessageHistory
from memos_engine import (
    BadInput,
    BadLimit,
    CaptureResult,
    EmbedderUnavailable,
    IdentityMissing,
    MemCube,
    MemOS,
    Message,
    Scope,
)
from tests.adapters.langchain.remembered import BreakableEmbedder, captured, memory_of
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

PIXELS = base64.b64encode(bytes(range(256)) * 8).decode()
CALL = {"name": "look", "args": {"at": "sky"}, "id": "c1", "type": "tool_call"}
EVERYTHING: list[BaseMessage] = [
    SystemMessage("Be brief.", id="s"),
    HumanMessage("What is in the sky?", id="h", name="Ann", additional_kwargs={"source": "phone"}),
    AIMessage("", id="a1", tool_calls=[CALL], response_metadata={"model_name": "m"}),
    ToolMessage("blue", tool_call_id="c1", id="t", status="error", artifact={"rows": [1, None, "a"]}),
    AIMessage(
        [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Blue."}],
        id="a2",
        usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
    ),
    HumanMessage(
        [
            {"type": "text", "text": "And here?"},
            {"type": "image", "base64": PIXELS, "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
            {"type": "file", "base64": PIXELS, "mime_type": "application/pdf"},
        ]
    ),
    ChatMessage(content="As you like.", role="critic"),
]


@pytest.fixture
def history(memos: MemOS) -> MemosChatMessageHistory:
    """A session of Alice's."""
    return MemosChatMessageHistory(memos, "s1", user_id="alice")


# The log


def test_messages_come_back_as_they_were(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Ids, tool calls, artifacts, blocks, images and files come back as added, from another object too."""
    history.add_messages(EVERYTHING)
    assert history.messages == EVERYTHING
    assert MemosChatMessageHistory(memos, "s1", user_id="alice").messages == EVERYTHING
    history.add_user_message("More.")
    history.add_ai_message("No.")
    assert history.messages == [*EVERYTHING, HumanMessage("More."), AIMessage("No.")]
    assert "Human: More.\nAI: No." in str(history)


def test_media_are_kept_once_by_their_hash(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Three shapes of one image are stored as bytes once."""
    history.add_messages(EVERYTHING)
    blobs = memos.acting_as(Scope("alice")).threads.blobs("chat/s1", "media")
    assert [blob.data for blob in blobs] == [base64.b64decode(PIXELS)]


def test_what_is_no_json_is_refused(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """An artifact that JSON cannot hold is refused with its whole call; documents are held."""
    bad = ToolMessage("r", tool_call_id="c", artifact=object())
    with pytest.raises(BadInput, match="JSON"):
        history.add_messages([HumanMessage("hi"), bad])
    assert history.messages == []
    assert captured(memos) == []
    history.add_message(ToolMessage("r", tool_call_id="c", artifact=[Document("text")]))
    (kept,) = history.messages
    assert isinstance(kept, ToolMessage)
    assert kept.artifact[0]["page_content"] == "text"


def test_what_models_send_is_mended(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Halves of characters, infinite numbers and tuples lose no turn."""
    sent = AIMessage("\ud83d\ude00 and \ud83d", response_metadata={"logprobs": [float("-inf"), (1, 0.5)]})
    history.add_messages([HumanMessage("hi"), sent])
    _, kept = history.messages
    assert kept.text == "\U0001f600 and \ufffd"
    assert kept.response_metadata == {"logprobs": ["-inf", [1, 0.5]]}
    assert captured(memos) == ["hi", "\U0001f600 and \ufffd"]


def test_a_log_that_is_cleared_meanwhile_begins_anew(
    memos: MemOS, history: MemosChatMessageHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said after `clear` becomes memory, though a capture of what was cleared ended later."""

    def clearing(cube: MemCube, messages: Sequence[Message], thread: str) -> CaptureResult:
        monkeypatch.undo()
        MemosChatMessageHistory(memos, "s1", user_id="alice").clear()
        return capture_into(cube, messages, thread)

    monkeypatch.setattr("memos_adapters.langchain.chat_history.captured", clearing)
    history.add_messages([HumanMessage("one"), AIMessage("two")])
    history.add_user_message("three")
    history.add_messages([AIMessage("four"), HumanMessage("five")])
    assert captured(memos) == ["one", "two", "three", "four", "five"]


def test_a_streamed_chunk_is_a_message(history: MemosChatMessageHistory) -> None:
    """What a stream left is stored as the whole message it became."""
    chunk = AIMessageChunk(content="Hel", id="r1") + AIMessageChunk(
        content="lo", id="r1", chunk_position="last"
    )
    history.add_messages([chunk])
    (kept,) = history.messages
    assert type(kept) is AIMessage
    assert (kept.content, kept.id) == ("Hello", "r1")


def test_sessions_and_users_are_apart(memos: MemOS) -> None:
    """Two sessions of a user, and one session's name of two users, never mix."""
    mine = MemosChatMessageHistory(memos, "s1", user_id="alice")
    other = MemosChatMessageHistory(memos, "s2", user_id="alice")
    theirs = MemosChatMessageHistory(memos, "s1", user_id="bob")
    agents = MemosChatMessageHistory(memos, "s1", agent_id="alice")
    for history, text in ((mine, "mine"), (other, "other"), (theirs, "theirs"), (agents, "agent's")):
        history.add_user_message(text)
    assert [str(each.messages[0].text) for each in (mine, other, theirs, agents)] == [
        "mine", "other", "theirs", "agent's",
    ]  # fmt: skip
    assert captured(memos) == ["mine", "other"]
    assert captured(memos, "bob") == ["theirs"]


def test_nobody_named_is_refused(memos: MemOS, cube: MemCube) -> None:
    """A history is somebody's, and has a name."""
    with pytest.raises(IdentityMissing):
        MemosChatMessageHistory(memos, "s1")
    with pytest.raises(BadInput, match="session_id"):
        MemosChatMessageHistory(memos, "", user_id="alice")
    with pytest.raises(BadInput, match="MemOS"):
        MemosChatMessageHistory(cube, "s1")  # type: ignore[arg-type] # -- what is tested
    with pytest.raises(IdentityMissing, match="agent_id"):
        MemosChatMessageHistory(memos, "s1", user_id="alice", isolation="agent")
    assert MemosChatMessageHistory(memos, "s1", default_user="alice").messages == []


def test_clear_erases_the_log_alone(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """After `clear` the session is empty and may begin anew; what was captured stays in memory."""
    history.add_messages([HumanMessage("one", id="1"), EVERYTHING[5]])
    history.clear()
    assert history.messages == []
    assert memos.acting_as(Scope("alice")).threads.threads() == []
    history.clear()
    history.add_messages([HumanMessage("two")])
    assert history.messages == [HumanMessage("two")]
    assert captured(memos)[0] == "one"
    assert captured(memos)[-1] == "two"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, []),
        (2, ["h3"]),
        (3, ["h3"]),
        (4, ["h3"]),
        (5, ["h3"]),
        (6, ["h2"]),
        (8, ["h2"]),
        (9, ["h1"]),
        (99, ["h1"]),
    ],
)
def test_a_limit_cuts_between_turns(memos: MemOS, limit: int, expected: list[str]) -> None:
    """The last messages, from the first of them that begins a turn: no answer without its question."""
    history = MemosChatMessageHistory(memos, "s1", user_id="alice", limit=limit)
    turns: list[BaseMessage] = [
        HumanMessage("h1"), AIMessage("a1"), AIMessage("a1b"),
        HumanMessage("h2"), AIMessage("", tool_calls=[CALL]), ToolMessage("t2", tool_call_id="c1"),
        AIMessage("a2"), HumanMessage("h3"), AIMessage("a3"),
    ]  # fmt: skip
    history.add_messages(turns)
    found = history.messages
    assert [str(each.content) for each in found[:1]] == expected
    assert found == turns[len(turns) - len(found) :]
    assert len(found) <= limit


def test_a_limit_keeps_what_is_whole(memos: MemOS) -> None:
    """A log that fits is whole, even one that an assistant began."""
    history = MemosChatMessageHistory(memos, "s1", user_id="alice", limit=2)
    greeting = [AIMessage("Hello, how can I help?"), HumanMessage("hi")]
    history.add_messages(greeting)
    assert history.messages == greeting
    for limit in (0, -1, True, 1.5):
        with pytest.raises(BadLimit, match="limit is"):
            MemosChatMessageHistory(memos, "s1", user_id="alice", limit=limit)  # type: ignore[arg-type] # -- tested


def test_equal_messages_are_all_there(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Who says yes twice has said it twice, in one call or in two, as one object or as two."""
    yes = HumanMessage("yes")
    history.add_messages([yes, AIMessage("ok"), yes])
    history.add_messages([yes, HumanMessage("yes")])
    assert [str(each.text) for each in history.messages] == ["yes", "ok", "yes", "yes", "yes"]
    assert yes.id is None
    assert captured(memos) == ["yes", "ok", "yes", "yes", "yes"]


def test_a_message_with_an_id_is_there_once(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Handing over a message again by its id adds nothing; the whole conversation may be handed over."""
    said: list[BaseMessage] = [HumanMessage("a", id="1"), AIMessage("b", id="2")]
    history.add_messages(said)
    history.add_messages(said)
    history.add_messages([*said, HumanMessage("c", id="3")])
    assert [each.id for each in history.messages] == ["1", "2", "3"]
    assert captured(memos) == ["a", "b", "c"]


def test_an_id_used_again_loses_nothing(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """An edited message stands beside the first, and a model's answer under an old id behind its question."""
    history.add_messages([HumanMessage("a", id="1"), AIMessage("b", id="2")])
    edited = [HumanMessage("a, or rather c", id="1")]
    history.add_messages(edited)
    history.add_messages(edited)
    history.add_messages([HumanMessage("again?"), AIMessage("b", id="2")])
    texts = ["a", "b", "a, or rather c", "again?", "b"]
    assert [str(each.text) for each in history.messages] == texts
    assert captured(memos) == texts[:4]


def test_no_messages_are_no_error(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """Adding nothing makes no session."""
    history.add_messages([])
    assert memos.acting_as(Scope("alice")).threads.threads() == []


# Memory


def test_words_become_memory(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """What user and assistant said is captured under the session, tools and system are not."""
    history.add_messages(EVERYTHING)
    texts = captured(memos)
    assert texts[:2] == ["What is in the sky?", "Blue."]
    assert texts[2].startswith("And here?\n[image image/png sha256:")
    assert len(texts) == 3
    items = memory_of(memos, "alice").list(kinds=["episode"])
    assert {item.thread for item in items} == {"s1"}
    assert "h" in {source.message_id for item in items for source in item.sources}
    assert memory_of(memos, "alice").recall("what colour is in the sky?")


def test_what_was_captured_is_left_alone(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """A memory that was corrected or forgotten since does not come back with the next message."""
    history.add_messages([HumanMessage("My cat is Tom", id="1"), HumanMessage("My pin is 1234", id="2")])
    memory = memory_of(memos, "alice")
    second, first = memory.list(kinds=["episode"])
    memory.update(first.id, text="My cat is Tim")
    memory.forget(second.id)
    history.add_user_message("Hello")
    assert captured(memos) == ["My cat is Tim", "Hello"]
    assert len(history.messages) == 3


def test_only_what_is_new_is_handed_over(
    memos: MemOS, history: MemosChatMessageHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn of a long session costs what it brings: memory is not handed the whole log again."""
    handed: list[int] = []

    def counted(cube: MemCube, messages: Sequence[Message], thread: str) -> CaptureResult:
        handed.append(len(messages))
        return capture_into(cube, messages, thread)

    monkeypatch.setattr("memos_adapters.langchain.chat_history.captured", counted)
    for n in range(3):
        history.add_messages([HumanMessage(f"q{n}"), AIMessage(f"a{n}")])
    MemosChatMessageHistory(memos, "s1", user_id="alice").add_user_message("q3")
    assert handed == [2, 2, 2, 1]


def test_roles_are_chosen(memos: MemOS) -> None:
    """Other roles are captured when asked for."""
    history = MemosChatMessageHistory(memos, "s1", user_id="alice", roles=frozenset({"tool"}))
    history.add_messages(EVERYTHING)
    assert captured(memos) == ["blue"]


def test_recalled_memories_are_no_memory(memos: MemOS, history: MemosChatMessageHistory) -> None:
    """A block of recalled memories in a message stays in the log and out of memory."""
    text = "<memories>\n1 Alice likes tea.\n</memories>\nWhat do I like?"
    history.add_user_message(text)
    assert history.messages[0].content == text
    assert captured(memos) == ["What do I like?"]


def test_what_is_private_stays_so(memos: MemOS) -> None:
    """What was added with `capture=False` never becomes memory, though the session goes on with it."""
    public = functools.partial(MemosChatMessageHistory, memos, "s1", user_id="alice")
    public().add_user_message("one")
    public(capture=False).add_user_message("my secret")
    public().add_user_message("three")
    assert [str(each.text) for each in public().messages] == ["one", "my secret", "three"]
    assert captured(memos) == ["one", "three"]


@pytest.fixture
def failing() -> BreakableEmbedder:
    """An embedder to break."""
    return BreakableEmbedder()


@pytest.fixture
def fragile(tmp_path: Path, failing: BreakableEmbedder) -> Iterator[MemOS]:
    """An open root whose embedder may break."""
    with MemOS.open(tmp_path / "fragile", embedder=failing, background=False) as memos:
        yield memos


def test_what_could_not_be_captured_is_later(fragile: MemOS, failing: BreakableEmbedder) -> None:
    """When capture fails the log is durable and the error told; the next add captures both, in order."""
    history = MemosChatMessageHistory(fragile, "s1", user_id="alice")
    history.add_messages([HumanMessage("one"), AIMessage("two")])
    failing.broken = True
    with pytest.raises(EmbedderUnavailable):
        history.add_messages([HumanMessage("three"), AIMessage("four")])
    assert len(history.messages) == 4
    failing.broken = False
    later = MemosChatMessageHistory(fragile, "s1", user_id="alice")
    later.add_messages([HumanMessage("five")])
    assert [str(each.text) for each in later.messages] == ["one", "two", "three", "four", "five"]
    assert captured(fragile) == ["one", "two", "three", "four", "five"]


def test_a_failed_add_may_be_repeated(fragile: MemOS, failing: BreakableEmbedder) -> None:
    """The same objects handed over again after an error are there once, in log and memory."""
    history = MemosChatMessageHistory(fragile, "s1", user_id="alice")
    said: list[BaseMessage] = [HumanMessage("yes"), AIMessage("ok", id="1"), HumanMessage("yes")]
    failing.broken = True
    for _ in range(2):
        with pytest.raises(EmbedderUnavailable):
            history.add_messages(said)
    failing.broken = False
    history.add_messages(said)
    assert history.messages == said
    assert captured(fragile) == ["yes", "ok", "yes"]
    history.add_messages(said[:1])  # a success ends it: this one is said once more
    assert len(history.messages) == 4


def test_many_threads_add_at_once(memos: MemOS) -> None:
    """Calls from many threads, each with a history of its own, lose and double nothing."""

    def add(n: int) -> None:
        history = MemosChatMessageHistory(memos, "s1", user_id="alice")
        history.add_messages([HumanMessage(f"q{n}"), AIMessage(f"a{n}")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    texts = [str(each.text) for each in MemosChatMessageHistory(memos, "s1", user_id="alice").messages]
    assert sorted(texts) == sorted(f"{kind}{n}" for kind in "qa" for n in range(12))
    assert all(texts[place + 1] == f"a{text[1:]}" for place, text in enumerate(texts) if text[0] == "q")
    assert sorted(captured(memos)) == sorted(texts)


async def test_async_methods_do_not_block_the_loop(tmp_path: Path) -> None:
    """While the model embeds and the disk is read, other coroutines run."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        with nothing_blocks():
            history = MemosChatMessageHistory(memos, "s1", user_id="alice")
            await history.aadd_messages([HumanMessage("hi"), EVERYTHING[5]])
            assert await history.aget_messages() == [HumanMessage("hi"), EVERYTHING[5]]
            await history.aclear()
            assert await history.aget_messages() == []
        assert captured(memos)[0] == "hi"
