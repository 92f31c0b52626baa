"""A turn of an agent with memory around it: as a block, a decorator and two calls, for sync and async loops."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memos_adapters.hooks import AsyncMemoryHooks, HookCounts, MemoryHooks
from memos_engine import (
    AccessDenied,
    BadInput,
    Closed,
    Context,
    IdentityMissing,
    MemCube,
    MemOS,
    Message,
    Scope,
    StoreBusy,
)
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

Dict = dict[str, Any]


def user(text: str, **more: object) -> Dict:
    """What a user says."""
    return {"role": "user", "content": text, **more}


def assistant(text: str, **more: object) -> Dict:
    """What an agent says."""
    return {"role": "assistant", "content": text, **more}


def memory(memos: MemOS, name: str = "alice", cube: str = "memories") -> MemCube:
    """A user's cube."""
    return memos.acting_as(Scope(user=name)).cube(cube)


def texts(cube: MemCube) -> list[str]:
    """The episodes of a cube, oldest first."""
    return [item.text for item in reversed(cube.list(kinds=["episode"], limit=1_000))]


@pytest.fixture
def hooks(memos: MemOS) -> MemoryHooks:
    """Hooks for Alice, to whom whatever was found is shown."""
    return MemoryHooks(memos, user_id="alice", min_score=0)


def test_a_turn_is_remembered_in_the_next_session(memos: MemOS, hooks: MemoryHooks) -> None:
    """A block recalls into a copy of the messages and captures what was said; the caller's list stays."""
    said = [user("I keep quokkas")]
    with hooks.turn(said, session_id="s1") as turn:
        assert turn.messages == said
        assert not turn.context
        turn.answer("How nice.")
    asked = [user("who keeps quokkas?")]
    before = copy.deepcopy(asked)
    with hooks.turn(asked, session_id="s2") as turn:
        assert "I keep quokkas" in turn.context.text
        assert turn.messages[0]["content"].endswith("</memories>\n\nwho keeps quokkas?")
        turn.answer(assistant("You do."))
    assert asked == before
    assert texts(memory(memos)) == ["I keep quokkas", "How nice.", "who keeps quokkas?", "You do."]
    assert hooks.counts == HookCounts(hooks.counts.recalls, captured=4, waiting=0, failed=0)
    assert hooks.counts.recalls.asked == 2


async def test_a_turn_of_a_coroutine(memos: MemOS, hooks: MemoryHooks) -> None:
    """The same block serves `async with`."""
    async with hooks.turn([user("I keep quokkas")], session_id="s1") as turn:
        turn.answer("How nice.")
    async with hooks.turn([user("who keeps quokkas?")], session_id="s2") as turn:
        assert "quokkas" in turn.messages[0]["content"]
    assert texts(memory(memos)) == ["I keep quokkas", "How nice.", "who keeps quokkas?"]


def test_a_growing_conversation_is_captured_once(memos: MemOS, hooks: MemoryHooks) -> None:
    """Handed over whole each turn, with the answer of the turn before in it, nothing is captured twice."""
    conversation: list[Dict] = []
    for n in range(4):
        conversation.append(user("yes"))
        with hooks.turn(conversation, session_id="s") as turn:
            answer = f"answer {n // 2}"
            turn.answer(answer)
        conversation.append(assistant(f"{answer}\n"))
    assert texts(memory(memos)) == ["yes", "answer 0"] * 2 + ["yes", "answer 1"] * 2


@pytest.mark.parametrize(
    "answers",
    [
        ["a", "b"],
        [assistant("a"), Message("assistant", "b")],
        [[assistant("a"), {"role": "tool", "content": "42"}, "b"]],
        [(None, assistant(""), "a"), None, "b"],
    ],
    ids=["texts", "messages", "a list", "nothings"],
)
def test_what_an_agent_answers(memos: MemOS, hooks: MemoryHooks, answers: list[object]) -> None:
    """Text, messages, lists of them and nothing are answers; what a tool said is left out."""
    with hooks.turn([user("hello")], session_id="s") as turn:
        for answer in answers:
            turn.answer(answer)
    assert texts(memory(memos)) == ["hello", "a", "b"]


@pytest.mark.parametrize("head", ["as handed over", "as given", "cut", "none"])
def test_a_returned_conversation_is_not_said_twice(memos: MemOS, hooks: MemoryHooks, head: str) -> None:
    """Of an agent that returns the whole conversation, what follows the user's words is the answer."""
    memory(memos).add("hello there is said by Alice")
    given = [{"role": "system", "content": "be kind"}, user("yes"), assistant("yes"), user("hello there")]
    with hooks.turn(given, session_id="s") as turn:
        heads = {"as handed over": turn.messages, "as given": given, "cut": turn.messages[-1:], "none": []}
        turn.answer([*heads[head], assistant("yes"), assistant("hi")])
    assert texts(memory(memos)) == ["yes", "yes", "hello there", "yes", "hi"]


def test_tools_are_remembered_when_asked_for(memos: MemOS) -> None:
    """With the role `tool` among the roles, what tools answered is memory too."""
    hooks = MemoryHooks(memos, user_id="alice", roles=frozenset({"user", "assistant", "tool"}))
    with hooks.turn([user("6 * 7?")], session_id="s") as turn:
        turn.answer([{"role": "tool", "content": "42", "tool_call_id": "c"}, "It is 42."])
    assert texts(memory(memos)) == ["6 * 7?", "42", "It is 42."]


class Broken(Exception):
    """What breaks an agent."""


async def test_what_was_said_is_kept_when_the_agent_fails(memos: MemOS, hooks: MemoryHooks) -> None:
    """The error goes on; the user's words, and what was answered before it, are captured."""
    with pytest.raises(Broken), hooks.turn([user("one")], session_id="s"):
        raise Broken

    async def broken() -> None:
        async with hooks.turn([user("two")], session_id="t") as turn:
            turn.answer("halfway")
            raise Broken

    with pytest.raises(Broken):
        await broken()
    with pytest.raises(KeyboardInterrupt), hooks.turn([user("three")], session_id="u"):
        raise KeyboardInterrupt
    assert texts(memory(memos)) == ["one", "two", "halfway", "three"]


async def test_what_was_said_is_kept_when_the_task_is_cancelled(memos: MemOS, hooks: MemoryHooks) -> None:
    """A turn that is cancelled, in the agent or while it is captured, is captured."""
    begun = asyncio.Event()

    async def taken() -> None:
        async with hooks.turn([user("one")], session_id="s"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(taken())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # again, while it captures
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(600):
        if texts(memory(memos)) == ["one"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(texts(memory(memos)))


async def test_a_turn_that_is_cancelled_while_it_recalls_is_kept(tmp_path: Path) -> None:
    """Who leaves before the agent has begun has said it all the same."""
    with MemOS.open(tmp_path, embedder=SlowEmbedder(), background=False) as memos:
        memory(memos).add("I like tea")
        begun = asyncio.Event()

        async def taken() -> None:
            begun.set()
            async with AsyncMemoryHooks(memos, user_id="alice").turn([user("tea?")], session_id="s"):
                raise AssertionError("it was cancelled before")

        task = asyncio.create_task(taken())
        await begun.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "tea?" in texts(memory(memos))


def test_an_answer_in_the_loops_own_list_is_captured_once(memos: MemOS, hooks: MemoryHooks) -> None:
    """A loop that keeps its answer in the list that it handed over, and tells it, said it once."""
    messages = [user("one")]
    with hooks.turn(messages, session_id="s") as turn:
        messages.append(assistant("two"))
        turn.answer("two")
    with hooks.turn([*messages, user("three")], session_id="s"):
        pass
    assert texts(memory(memos)) == ["one", "two", "three"]


def test_a_decorated_agent_remembers(memos: MemOS, hooks: MemoryHooks) -> None:
    """Each call of a decorated function is a turn; it keeps its name, its parameters and what it returns."""

    @hooks.remembers
    def agent(messages: list[Dict], style: str = "kind", *, session_id: str) -> str:
        """Answer."""
        return f"{style}: {messages[-1]['content'][-20:]}"

    assert agent([user("I keep quokkas")], session_id="s1") == "kind: I keep quokkas"
    assert agent(messages=[user("who keeps quokkas?")], session_id="s2", style="odd").startswith("odd: ")
    assert (agent.__name__, agent.__doc__) == ("agent", "Answer.")
    assert list(inspect.signature(agent).parameters) == ["messages", "style", "session_id"]
    assert texts(memory(memos))[:3] == ["I keep quokkas", "kind: I keep quokkas", "who keeps quokkas?"]


async def test_a_decorated_coroutine_function_stays_one(memos: MemOS, hooks: MemoryHooks) -> None:
    """An async agent is awaited inside of its turn."""

    @hooks.remembers
    async def agent(messages: list[Dict], session_id: str) -> str:
        await asyncio.sleep(0)
        return str(messages[-1]["content"]).upper()[-10:]

    assert inspect.iscoroutinefunction(agent)
    assert await agent([user("I keep quokkas")], "s1") == "EP QUOKKAS"
    assert texts(memory(memos)) == ["I keep quokkas", "EP QUOKKAS"]


def test_a_call_says_who_it_is_for(memos: MemOS) -> None:
    """The agent's own parameters name the user, agent and session: given, by default, or passed on."""
    hooks = MemoryHooks(memos, isolation="agent")

    @hooks.remembers
    def agent(messages: list[Dict], user_id: str, agent_id: str = "a", **more: str) -> str:
        return "ok"

    agent([user("one")], "alice", session_id="s")
    agent([user("two")], user_id="bob", agent_id="b", session_id="s")
    assert texts(memory(memos, "alice", "memories/agent:a")) == ["one", "ok"]
    assert texts(memory(memos, "bob", "memories/agent:b")) == ["two", "ok"]
    bound = MemoryHooks(memos, default_user="guest").remembers(lambda messages, **more: "ok")
    bound([user("three")], user_id="carol", session_id="s")
    bound([user("four")], session_id="s")
    assert texts(memory(memos, "carol")) == ["three", "ok"]
    assert texts(memory(memos, "guest")) == ["four", "ok"]
    with pytest.raises(AccessDenied):
        MemoryHooks(memos, user_id="alice").remembers(lambda messages, **more: "ok")(
            [user("x")], user_id="bob"
        )


class Bot:
    """Agents as methods and callable objects."""

    def answer(self, messages: list[Dict], session_id: str = "method") -> str:
        return "by a method"

    async def __call__(self, messages: list[Dict], session_id: str = "object") -> str:
        return "by an object"


async def test_agents_of_any_kind_are_decorated(memos: MemOS, hooks: MemoryHooks) -> None:
    """Methods, callable objects, partial functions and what names its messages otherwise are agents."""

    def talk(style: str, history: list[Dict], *, session_id: str = "partial") -> list[Dict]:
        return [*history, assistant(style)]

    assert hooks.remembers(Bot().answer)([user("a")]) == "by a method"
    assert await hooks.remembers(Bot())([user("b")]) == "by an object"
    assert hooks.remembers(functools.partial(talk, "by a part"))([user("c")])[-1]["content"] == "by a part"
    assert (
        hooks.remembers(lambda history, session_id="x": "by another name")([user("d")]) == "by another name"
    )
    assert texts(memory(memos)) == [
        "a", "by a method", "b", "by an object", "c", "by a part", "d", "by another name",
    ]  # fmt: skip


def test_other_answers_are_taken_out(memos: MemOS, hooks: MemoryHooks) -> None:
    """What an agent returns beside text is told how to be read; the caller gets it as it was."""

    @hooks.remembers(answer=lambda result: result["text"])
    def agent(messages: list[Dict], session_id: str = "s") -> Dict:
        return {"text": "hi", "cost": 7}

    assert agent([user("hello")]) == {"text": "hi", "cost": 7}
    assert texts(memory(memos)) == ["hello", "hi"]
    with pytest.raises(BadInput, match=r"remembers\(answer"):
        hooks.remembers(lambda messages, session_id="t": object())([user("bye")])
    assert texts(memory(memos)) == ["hello", "hi", "bye"], "what the user said is kept all the same"


def test_what_cannot_be_decorated_is_told(hooks: MemoryHooks) -> None:
    """A function that streams, or takes nothing, is refused when it is decorated."""

    def streams(messages: list[Dict]) -> Iterator[str]:
        yield "a"

    async def streams_too(messages: list[Dict]) -> AsyncIterator[str]:
        yield "a"

    agents: list[Callable[..., Any]] = [streams, streams_too, functools.partial(streams), lambda: "a"]
    for agent in agents:
        with pytest.raises(BadInput, match=r"turn|takes no messages"):
            hooks.remembers(agent)
    with pytest.raises(TypeError):
        hooks.remembers(lambda messages: "a")([user("a")], "one too many")  # type: ignore[call-arg] # -- as it says


def test_two_calls_do_the_same(memos: MemOS, hooks: MemoryHooks) -> None:
    """A loop that needs neither block nor decorator recalls and captures by two calls."""
    said = [user("I keep quokkas"), assistant("Nice.")]
    result = hooks.capture_after(said, session_id="s")
    assert result is not None
    assert result.new == 2
    assert hooks.recall_before([user("who keeps quokkas?")], session_id="t")
    assert hooks.recall_before([user("who keeps quokkas?")])
    assert hooks.recall_before([]) == Context()


async def test_the_async_twin_is_the_same_awaited(memos: MemOS, hooks: MemoryHooks) -> None:
    """Same settings, names and parameters; the same memory."""
    for name, member in inspect.getmembers(MemoryHooks, inspect.isfunction):
        twin = inspect.getattr_static(AsyncMemoryHooks, name, None)
        if name in ("recall_before", "capture_after", "flush", "close"):
            assert inspect.iscoroutinefunction(twin)
            assert inspect.signature(member).parameters == inspect.signature(twin).parameters
            assert inspect.getdoc(twin)
        elif not name.startswith("__") or name == "__init__":
            assert twin is member
    async with AsyncMemoryHooks(memos, user_id="alice", min_score=0) as twin_hooks:
        result = await twin_hooks.capture_after([user("I keep quokkas")], session_id="s")
        assert result is not None
        assert result.new == 1
        assert "quokkas" in (await twin_hooks.recall_before([user("quokkas?")])).text
        async with twin_hooks.turn([user("quokkas?")], session_id="t") as turn:
            assert "I keep" in turn.messages[0]["content"]
        await twin_hooks.flush()
    with pytest.raises(Closed):
        await twin_hooks.recall_before([user("quokkas?")])
    assert texts(memory(memos)) == ["I keep quokkas", "quokkas?"]


async def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    """Memory opened, recalled, captured and closed, the event loop goes on; a slow model holds up its turn alone."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        hooks = AsyncMemoryHooks(memos, user_id="alice", capture_interval_s=3_600)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        @hooks.remembers
        async def agent(messages: list[Dict], session_id: str = "t") -> str:
            return "ok"

        with nothing_blocks():
            ticking = asyncio.create_task(tick())
            async with hooks.turn([user("I keep quokkas")], session_id="s") as turn:
                turn.answer("Nice.")
            assert await hooks.capture_after([user("again")], session_id="s") is None
            await agent([user("quokkas?")])
            await hooks.flush()
            await hooks.close()
            ticking.cancel()
        assert ticks > 100
        assert len(texts(memory(memos))) == 5


def test_who_is_nobody_is_refused_at_the_head(memos: MemOS) -> None:
    """Without a user, or for another than the one bound, the agent is not even called."""
    for hooks, said, error in (
        (MemoryHooks(memos), {}, IdentityMissing),
        (MemoryHooks(memos, user_id="alice"), {"user_id": "bob"}, AccessDenied),
        (MemoryHooks(memos, user_id="alice", session_id="s"), {"session_id": "t"}, AccessDenied),
        (MemoryHooks(memos, user_id="alice", isolation="session"), {}, IdentityMissing),
        (MemoryHooks(memos.acting_as(Scope(user="alice"))), {"user_id": "bob"}, AccessDenied),
    ):
        turn = hooks.turn([user("hello")], **said)
        with pytest.raises(error):
            turn.__enter__()
        with pytest.raises(error):
            hooks.capture_after([user("hello")], **said)
        with pytest.raises(error):
            hooks.recall_before([], **said)
    assert memos.cubes() == []


@pytest.mark.parametrize("isolation", ["user", "agent", "session"])
def test_memory_is_kept_apart(memos: MemOS, isolation: str) -> None:
    """What one user, agent or session said is recalled where it is shared, and nowhere else."""
    hooks = MemoryHooks(memos, isolation=isolation, min_score=0)  # type: ignore[arg-type] # -- one of its names
    hooks.capture_after([user("I keep quokkas")], user_id="u", agent_id="a", session_id="s")
    shared = [
        bool(hooks.recall_before([user("quokkas?")], user_id=who, agent_id=agent, session_id=session))
        for who, agent, session in (("u", "a", "s"), ("u", "a", "t"), ("u", "b", "s"), ("v", "a", "s"))
    ]
    depth = ["session", "agent", "user"].index(isolation)
    assert shared == [True, depth > 0, depth > 1, False]


def test_channels_decorate_their_sessions(memos: MemOS) -> None:
    """With a prefix and a suffix, the same session of two channels is two conversations."""
    for channel in ("web:", "phone:"):
        hooks = MemoryHooks(memos, user_id="alice", session_prefix=channel, session_suffix="#2025")
        hooks.capture_after([user("hello")], session_id="7")
        hooks.capture_after([user("hello")], session_id="7")
    items = memory(memos).list(kinds=["episode"])
    assert {(item.thread, item.session) for item in items} == {("web:7#2025",) * 2, ("phone:7#2025",) * 2}
    assert len(items) == 2


def test_without_a_session_the_turn_at_hand_is_captured(memos: MemOS, hooks: MemoryHooks) -> None:
    """Nobody can tell conversations without a name apart: each call adds its last turn, and no more."""
    hooks.capture_after([user("one"), assistant("yes")])
    hooks.capture_after([user("one"), assistant("yes"), user("two"), assistant("yes")])
    hooks.capture_after([user("one"), assistant("yes")])
    assert texts(memory(memos)) == ["one", "yes", "two", "yes", "one", "yes"]


def test_a_loop_may_hand_over_new_messages_alone(memos: MemOS) -> None:
    """With `whole_thread=False` the second "yes" is a second one; an id still makes it the same."""
    hooks = MemoryHooks(memos, user_id="alice", session_id="s", whole_thread=False)
    for _ in range(2):
        with hooks.turn([user("yes")]) as turn:
            turn.answer(assistant("fine", id="a1"))
    assert texts(memory(memos)) == ["yes", "fine", "yes"]


def test_hooks_over_a_cube(cube: MemCube) -> None:
    """One memory for every call: the session is chosen by the call or for good, a user is not."""
    hooks = MemoryHooks(cube, session_id="s", session_prefix="web:")
    hooks.capture_after([user("hello")])
    hooks.capture_after([user("hello")], session_id="s")
    assert [item.thread for item in cube.list(kinds=["episode"])] == ["web:s"]
    MemoryHooks(cube).capture_after([user("hello")], session_id="t")
    assert len(texts(cube)) == 2
    with pytest.raises(BadInput):
        MemoryHooks(cube, user_id="alice")
    hooks.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "no place"},
        {"timeout_s": 0},
        {"budget_tokens": 0},
        {"isolation": "tenant"},
        {"capture_interval_s": -1},
        {"capture_interval_s": float("nan")},
        {"capture_interval_s": True},
        {"user_id": " "},
        {"roles": "user"},
        {"capture_interval_s": float("inf")},
    ],
    ids=str,
)
def test_settings_are_checked_at_once(memos: MemOS, settings: dict[str, Any]) -> None:
    """A setting that cannot be taken is refused when the hooks are made."""
    with pytest.raises(BadInput):
        MemoryHooks(memos, **settings)


class FailingEmbedder(HashEmbedder):
    """Fails while it is told to."""

    error: Exception | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Fail, or embed."""
        if self.error is not None:
            raise self.error
        return super().embed(texts)


async def test_a_turn_never_fails_for_its_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be recalled or captured is counted and logged without words; the next turn brings it in."""
    embedder = FailingEmbedder()
    with MemOS.open(tmp_path / "root", embedder=embedder, background=False) as memos:
        hooks = MemoryHooks(memos, user_id="alice", session_id="s")
        hooks.capture_after([user("hello")])
        embedder.error = RuntimeError("cannot embed 'my secret'")
        with caplog.at_level(logging.WARNING), hooks.turn([user("my secret")]) as turn:
            turn.answer("ok")
        async with hooks.turn([user("my secret")]) as turn:
            turn.answer("ok")
        assert hooks.remembers(lambda messages: "ok")([user("my secret")]) == "ok"
        assert (hooks.counts.recalls.failed, hooks.counts.failed, hooks.counts.captured) == (3, 3, 1)
        assert "secret" not in "".join(str(record.__dict__) for record in caplog.records)
        with pytest.raises(RuntimeError):
            hooks.capture_after([user("my secret")])
        with pytest.raises(Broken), hooks.turn([user("my secret")]):
            raise Broken
        strict = MemoryHooks(memos, user_id="alice", session_id="s", strict=True)
        with pytest.raises(RuntimeError, match="secret"):
            strict.recall_before([user("my secret")])
        embedder.error = None
        with pytest.raises(RuntimeError, match="secret"), strict.turn([user("my secret")]):
            embedder.error = RuntimeError("cannot embed 'my secret'")
        embedder.error = None
        hooks.capture_after([user("my secret"), assistant("ok")])
        assert texts(memory(memos)) == ["hello", "my secret", "ok"]


def test_a_disk_that_fails_leaves_the_turn_without(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """When not even the memory can be opened the turn goes on, and both halves are counted."""
    hooks = MemoryHooks(memos, user_id="alice", session_id="s")

    def busy(self: MemOS, name: str, **how: object) -> MemCube:
        raise StoreBusy("locked")

    monkeypatch.setattr(MemOS, "cube", busy)
    with hooks.turn([user("hello")]) as turn:
        assert turn.messages == [user("hello")]
    assert (hooks.counts.recalls.failed, hooks.counts.failed) == (1, 1)
    with pytest.raises(StoreBusy):
        MemoryHooks(memos, user_id="alice", strict=True).recall_before([user("hello")])


def test_who_may_only_read_is_told(memos: MemOS) -> None:
    """A right that is missing at the end of a turn is no failure to be passed over."""
    own = memory(memos)
    own.grant(Scope(user="bob"), "read")
    hooks = MemoryHooks(memos.acting_as(Scope(user="bob")).cube("memories", owner=Scope(user="alice")))
    with pytest.raises(AccessDenied), hooks.turn([user("hello")], session_id="s"):
        pass
    assert texts(own) == []


def test_many_threads_share_hooks(memos: MemOS, hooks: MemoryHooks) -> None:
    """Turns of several users and sessions at once land each in its own memory, once."""
    shared = MemoryHooks(memos)
    start = threading.Barrier(8)

    def talk(n: int) -> None:
        start.wait()
        conversation: list[Dict] = []
        for turns in range(4):
            conversation.append(user(f"turn {turns} of {n}"))
            with shared.turn(conversation, user_id=f"u{n % 4}", session_id=f"s{n}") as turn:
                turn.answer("ok")
            conversation.append(assistant("ok"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(8)))
    for n in range(4):
        found = texts(memory(memos, f"u{n}"))
        expected = [text for m in (n, n + 4) for t in range(4) for text in (f"turn {t} of {m}", "ok")]
        assert sorted(found) == sorted(expected)
    assert shared.counts.captured == 64


def test_a_closed_pair_of_hooks_takes_no_turn(memos: MemOS) -> None:
    """After `close`, which may be called again, each call says that it is closed."""
    with MemoryHooks(memos, user_id="alice") as hooks:
        hooks.capture_after([user("hello")], session_id="s")
    hooks.close()
    for call in (hooks.recall_before, hooks.capture_after):
        with pytest.raises(Closed):
            call([user("hello")])
