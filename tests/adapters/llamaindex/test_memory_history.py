"""A session's history over restarts, resets and histories that are handed over: captured exactly once."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory.memory import InsertMethod
from pydantic import ValidationError

from memos_adapters._chat_log import ChatLog
from memos_adapters.llamaindex.chat_store import MemosSimpleChatStore
from memos_adapters.llamaindex.memory import MemosMemory
from memos_engine import AccessDenied, BadInput, MemOS, Scope
from memos_engine.store.database import Connection, Database
from memos_engine.testing.fakes import HashEmbedder


def user(text: str) -> ChatMessage:
    """What the user says."""
    return ChatMessage(text)


def assistant(text: str) -> ChatMessage:
    """What the assistant says."""
    return ChatMessage(text, role=MessageRole.ASSISTANT)


TALK = [user("My dog is called Bruno."), assistant("Fine."), user("yes"), assistant("Fine."), user("yes")]


def captured(memos: MemOS, name: str = "alice") -> list[str]:
    """All turns that a user's cube holds, in the order they were captured."""
    episodes = memos.acting_as(Scope(name)).cube("memories").list(kinds=["episode"], limit=1000)
    return [item.text for item in sorted(episodes, key=lambda item: item.id)]


def said(messages: list[ChatMessage]) -> list[str]:
    """What they say."""
    return [message.content or "" for message in messages]


def test_a_history_of_another_framework_is_told(memos: MemOS) -> None:
    """A session of that name which holds other messages is refused with what to do."""
    threads = memos.acting_as(Scope("alice")).threads
    threads.append("llamaindex/s", [{"message": {"type": "human", "data": {"content": "Hi"}}}])
    memory = MemosMemory(memos, "s", user_id="alice")
    for read in (memory.get, memory.get_all):
        with pytest.raises(BadInput, match="another session_id"):
            read()


@pytest.fixture
def memory(memos: MemOS) -> MemosMemory:
    """A session in which something was said."""
    return MemosMemory.from_defaults(memos, "s", TALK, user_id="alice")


def test_two_that_say_the_same_are_two_turns(memos: MemOS, memory: MemosMemory) -> None:
    """Each `put` is a turn of its own, whatever was said before."""
    memory.put(user("yes"))
    memory.put(user("yes"))
    assert captured(memos) == [*said(TALK), "yes", "yes"]


@pytest.mark.parametrize("times", [1, 3])
def test_the_same_history_changes_nothing(memos: MemOS, memory: MemosMemory, times: int) -> None:
    """An agent that is handed the whole history every turn captures it once."""
    for _ in range(times):
        memory.set(TALK)
        memory.set([ChatMessage.model_validate(message.model_dump()) for message in TALK])
    assert memory.get_all() == TALK
    assert captured(memos) == said(TALK)


def test_a_longer_history_adds_its_end(memos: MemOS, memory: MemosMemory) -> None:
    """What follows the known part is logged and captured, and nothing else."""
    longer = [*TALK, assistant("Fine."), user("yes")]
    memory.set(longer)
    assert memory.get_all() == longer
    assert captured(memos) == said(longer)


def test_a_history_that_shrinks_and_grows_again_is_captured_once(memos: MemOS, memory: MemosMemory) -> None:
    """Messages that left and come back are the ones they were; their memories never left."""
    memory.set(TALK[:1])
    assert memory.get_all() == TALK[:1]
    assert captured(memos) == said(TALK)
    memory.set(TALK)
    assert memory.get_all() == TALK
    memory.set([])
    assert memory.get_all() == []
    memory.set([*TALK, assistant("End.")])
    assert captured(memos) == [*said(TALK), "End."]


def test_a_message_that_came_back_is_said_again_as_another(memos: MemOS) -> None:
    """A history that grows by what it already says grows by a turn of its own."""
    memory = MemosMemory.from_defaults(memos, "s", [user("yes")], user_id="alice")
    memory.set([])
    memory.set([user("yes")])
    memory.set([user("yes"), user("yes")])
    assert memory.get_all() == [user("yes")] * 2
    assert captured(memos) == ["yes", "yes"]


def test_a_changed_message_is_captured_beside_the_first(memos: MemOS, memory: MemosMemory) -> None:
    """An edited history keeps its identical start; what was said instead is remembered too."""
    changed = [TALK[0], assistant("A fine name."), *TALK[2:]]
    memory.set(changed)
    assert memory.get_all() == changed
    assert captured(memos) == [*said(TALK), "A fine name."]


def test_a_history_with_other_arguments_is_the_same_talk(memos: MemOS, memory: MemosMemory) -> None:
    """A front end that hands back role and text alone is not taken for saying it all again."""
    annotated = [ChatMessage(m.content, role=m.role, additional_kwargs={"usage": 3}) for m in TALK]
    memory.set(annotated)
    assert memory.get_all() == annotated
    memory.set(TALK)
    assert memory.get_all() == TALK
    assert captured(memos) == said(TALK)


def test_a_history_without_the_tools_is_the_same_talk(memos: MemOS, memory: MemosMemory) -> None:
    """A history from which an application left the tool messages out is not captured anew."""
    tool = [assistant(""), ChatMessage("42", role=MessageRole.TOOL)]
    memory.put_messages([*tool, assistant("It is 42.")])
    without = [*TALK, assistant("It is 42.")]
    memory.set(without)
    assert memory.get_all() == without
    assert captured(memos) == said(without)


def test_a_reset_erases_the_history_and_keeps_the_memories(memos: MemOS, memory: MemosMemory) -> None:
    """After it, what is put is said again, and a history that is handed over is the old one."""
    memory.reset()
    assert memory.get_all() == []
    assert memory.get() == []
    assert captured(memos) == said(TALK)
    assert "Bruno" not in str(memos.acting_as(Scope("alice")).threads.list("chat-left/s"))
    memory.put(user("yes"))
    assert captured(memos) == [*said(TALK), "yes"]
    memory.set(TALK)
    assert captured(memos) == [*said(TALK), "yes"]


def test_what_was_forgotten_is_not_captured_again(memos: MemOS, memory: MemosMemory) -> None:
    """A history that is handed over does not bring back what the user had erased."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    (bruno,) = [item for item in cube.list(kinds=["episode"]) if "Bruno" in item.text]
    cube.forget(bruno.id)
    memory.set(TALK[1:])
    memory.set(TALK)
    MemosMemory(memos, "s", user_id="alice").put(user("new"))
    assert captured(memos) == [*said(TALK[1:]), "new"]


def test_a_session_goes_on_after_a_restart(tmp_path: Path) -> None:
    """History, identity of its messages and memories are on the disk, not in the object."""
    for turn in range(3):
        with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
            memory = MemosMemory(memos, "s", user_id="alice")
            assert len(memory.get_all()) == 2 * turn
            memory.put_messages([user("yes"), assistant("Fine.")])
            memory.set(memory.get_all())
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
        assert captured(memos) == ["yes", "Fine."] * 3


def test_what_another_object_logged_is_captured_too(memos: MemOS, memory: MemosMemory) -> None:
    """Two memories of one session, as two workers have, miss nothing of each other's."""
    other = MemosMemory(memos, "s", user_id="alice")
    memory.put(user("one"))
    other.put(user("two"))
    memory.reset()
    other.put(user("three"))
    memory.put(user("four"))
    other.put(user("five"))
    assert captured(memos) == [*said(TALK), "one", "two", "three", "four", "five"]
    assert said(memory.get_all()) == ["three", "four", "five"]


def test_threads_lose_nothing(memos: MemOS) -> None:
    """Messages that many threads put at once are all logged and captured once."""
    memory = MemosMemory(memos, "s", user_id="alice")
    every = [f"message {n}" for n in range(40)]

    def turn(text: str) -> None:
        memory.put(user(text))
        assert memory.get()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(turn, every))
    assert sorted(said(memory.get_all())) == sorted(every)
    assert sorted(captured(memos)) == sorted(every)


def test_settings_are_written_out_and_read_back(memos: MemOS) -> None:
    """`to_dict` is JSON without secrets or messages; `from_dict` with a MemOS goes on where it was."""
    memory = MemosMemory(
        memos,
        "s",
        user_id="alice",
        agent_id="a",
        token_limit=500,
        insert_method=InsertMethod.SYSTEM,
        min_score=0.2,
    )
    memory.put(user("My dog is called Bruno."))
    data = json.loads(json.dumps(memory.to_dict()))
    assert data["class_name"] == "MemosMemory"
    assert "Bruno" not in str(data)
    back = MemosMemory.from_dict(data, memos=memos)
    assert back is not memory
    assert back.to_dict() | {"alive_as": ""} == memory.to_dict() | {"alive_as": ""}
    assert back.get_all() == memory.get_all()
    assert back.insert_method is InsertMethod.SYSTEM
    assert MemosMemory.from_dict(data | {"of_tomorrow": 1}, memos=memos, session_id="t").session_id == "t"


def test_the_living_memory_is_read_back_as_itself(memos: MemOS) -> None:
    """Within a process `from_dict` without a MemOS, copies and pickles give the very memory."""
    memory = MemosMemory(memos, "s", user_id="alice")
    assert MemosMemory.from_dict(memory.to_dict()) is memory
    assert copy.deepcopy(memory) is memory
    assert pickle.loads(pickle.dumps(memory)) is memory  # noqa: S301 -- our own bytes
    shallow = memory.model_copy(update={"session_id": "t"})
    shallow.put(user("Hello"))
    assert MemosMemory.from_dict(shallow.to_dict()) is shallow
    assert memory.get_all() == []


def test_nobody_is_let_in_by_a_written_name(memos: MemOS) -> None:
    """Data that were changed on the way open no memory by themselves, nor the one that they no longer name."""
    memory = MemosMemory(memos, "s", user_id="alice")
    data = memory.to_dict()
    for changed in (
        {"user_id": "bob"},
        {"user_id": None},
        {"agent_id": "a"},
        {"session_id": "t"},
        {"cube": "other"},
        {"isolation": "session"},
    ):
        with pytest.raises(AccessDenied, match=next(iter(changed))):
            MemosMemory.from_dict(data | changed)
    with pytest.raises(AccessDenied, match="bob"):
        MemosMemory.from_dict(data, user_id="bob")
    assert not MemosMemory.from_dict(data | {"alive_as": "guessed"})


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("copied", ["model_copy", "copy"])
def test_a_copy_for_another_is_the_others(
    memos: MemOS, memory: MemosMemory, copied: str, *, deep: bool
) -> None:
    """A copy with another name in it serves that one alone, and shares nothing with the first."""
    bobs: MemosMemory = getattr(memory, copied)(update={"user_id": "bob", "session_id": "t"}, deep=deep)
    assert (memory.user_id, memory.session_id) == ("alice", "s")
    assert bobs.get_all() == []
    bobs.put(user("I like chess."))
    assert captured(memos, "bob") == ["I like chess."]
    assert captured(memos) == said(TALK)
    assert "Bruno" not in str(bobs.get("My dog is called what?"))
    with pytest.raises(BadInput, match="of_tomorrow"):
        memory.model_copy(update={"of_tomorrow": 1})
    assert memory.model_copy(update={"user_id": "alice"}).get_all() == memory.get_all()


def test_whose_memory_it_is_cannot_be_set(memos: MemOS, memory: MemosMemory) -> None:
    """A name is told when it is made: to set it is refused, and changes nothing."""
    for name in ("memos", "user_id", "agent_id", "session_id", "cube", "isolation"):
        held = getattr(memory, name)
        with pytest.raises(ValidationError, match="frozen"):
            setattr(memory, name, "session")
        assert getattr(memory, name) == held
    memory.put(user("Hello"))
    assert captured(memos) == [*said(TALK), "Hello"]


def test_a_session_that_a_chat_store_wrote_goes_on(memos: MemOS) -> None:
    """Its messages can be handed over anew like those of the memory, once each; those without an id too."""
    MemosSimpleChatStore(memos, user_id="alice").set_messages("s", TALK)
    memory = MemosMemory(memos, "s", user_id="alice")
    for new in ([user("Wait."), *TALK], TALK, [*TALK, user("Hello")]):
        memory.set(new)
        assert said(memory.get_all()) == said(new)
    assert sorted(captured(memos)) == sorted(said([user("Wait."), *TALK, user("Hello")]))
    log = ChatLog(memos.acting_as(Scope("alice")).threads, "llamaindex/t")
    log.append([entry.value for entry in memory._session().entries()])
    nameless = MemosMemory(memos, "t", user_id="alice")
    nameless.set([user("Wait."), *TALK])
    assert said(nameless.get_all()) == said([user("Wait."), *TALK])


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("writes", range(4))
def test_a_stop_while_a_history_is_set_loses_nothing(
    memos: MemOS, memory: MemosMemory, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After each of its commits the old history stands or the new one does, and it can be set again."""
    new, done, write = [user("Wait."), *TALK], 0, Database.write

    def stopping(database: Database, work: Callable[[Connection], Any]) -> Any:
        nonlocal done
        if done == writes:
            raise Stopped
        done += 1
        return write(database, work)

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", stopping)
        with contextlib.suppress(Stopped):
            memory.set(new)
    assert said(memory.get_all()) == said(TALK if writes < 2 else new)
    again = MemosMemory(memos, "s", user_id="alice")
    again.set(new)
    assert said(again.get_all()) == said(new)
    again.put(user("Hello"))
    assert sorted(captured(memos)) == sorted([*said(new), "Hello"])


def test_a_memory_of_another_process_says_what_it_lacks(
    memos: MemOS, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its MemOS it is falsy, tells what to do when it is used, and can be written out again."""
    data = MemosMemory(memos, "s", user_id="alice").to_dict() | {"alive_as": "elsewhere"}
    orphan = MemosMemory.from_dict(data)
    assert not orphan
    assert "without its MemOS" in caplog.text
    for use in (
        orphan.get,
        orphan.get_all,
        orphan.reset,
        lambda: orphan.put(user("x")),
        lambda: orphan.set([]),
    ):
        with pytest.raises(BadInput, match="memory=memory"):
            use()
    assert MemosMemory.from_dict(orphan.to_dict(), memos=memos).session_id == "s"
