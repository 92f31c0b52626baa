"""What an agent's memory holds after turns that fail, stop, branch, shrink or come again: each message once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
)
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from memos_adapters.langchain.middleware import MemosMiddleware
from memos_engine import AccessDenied, MemOS, Scope
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.langchain.scripted_model import ScriptedModel, calls, memory_of, run_of, said_in

ALICE = run_of("alice", "t1")


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def said(*texts: str) -> Any:
    """User messages as the input of a run."""
    return {"messages": [HumanMessage(text) for text in texts]}


def turns(*texts: str) -> list[tuple[str, str]]:
    """User and assistant in turns."""
    return [(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]


def for_alice(config: RunnableConfig) -> RunnableConfig:
    """The config of a checkpoint, for a run of Alice's."""
    return {"configurable": {**config["configurable"], "user_id": "alice"}}


class Failing(AgentMiddleware):
    """Fails after the agent is done, as often as it is told. Listed first, it runs after all others."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def after_agent(self, state: Any, runtime: Any) -> None:
        """Fail, or not."""
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("after the capture")


def test_a_turn_is_captured_once_with_its_place(memos: MemOS) -> None:
    """Words of user and assistant are memory after the turn, under thread and id, and new turns are added to them."""
    agent = create_agent(
        ScriptedModel(answers=["Hello.", "Lisbon!"]),
        system_prompt="Be brief.",
        middleware=[middleware := MemosMiddleware(memos)],
        checkpointer=InMemorySaver(),
    )
    agent.invoke({"messages": [HumanMessage("Hi.", id="m1")]}, ALICE)
    agent.invoke(said("I moved to Lisbon."), ALICE)
    cube = memory_of(memos, "alice")
    assert said_in(cube) == turns("Hi.", "Hello.", "I moved to Lisbon.", "Lisbon!")
    first = cube.list(kinds=["episode"])[-1]
    assert (first.thread, first.sources[0].message_id) == ("t1", "m1")
    assert (middleware.counts.captures, middleware.counts.messages, middleware.counts.failed_captures) == (
        2,
        4,
        0,
    )


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}, {"capture_on": "model"}])
def test_a_run_that_fails_after_its_capture_is_resumed(memos: MemOS, options: dict[str, Any]) -> None:
    """A node that fails once the turn is captured, and runs again, leaves each message once."""
    agent = create_agent(
        ScriptedModel(answers=["Hello.", "Yes."]),
        middleware=[Failing(2), MemosMiddleware(memos, **options)],
        checkpointer=InMemorySaver(),
    )
    for entered in (said("Hi."), None):
        with pytest.raises(RuntimeError, match="after the capture"):
            agent.invoke(entered, ALICE)
    agent.invoke(None, ALICE)
    agent.invoke(said("There?"), ALICE)
    assert said_in(memory_of(memos, "alice")) == turns("Hi.", "Hello.", "There?", "Yes.")


def test_a_model_that_is_tried_again_is_captured_once(memos: MemOS) -> None:
    """Retries of the model, inside or outside of the middleware, change nothing in memory."""
    for n, outside in enumerate((True, False)):
        retry: list[AgentMiddleware[Any, Any]] = [
            ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
        ]
        own: list[AgentMiddleware[Any, Any]] = [MemosMiddleware(memos, capture_on="model")]
        model = ScriptedModel(answers=[RuntimeError("busy"), calls(("weather", {"city": "Rome"})), "Sunny."])
        agent = create_agent(model, [weather], middleware=retry + own if outside else own + retry)
        agent.invoke(said("Weather?"), run_of(f"user{n}"))
        assert said_in(memory_of(memos, f"user{n}")) == turns("Weather?", "Sunny.")


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}, {"capture_on": "model"}])
def test_an_interrupted_turn_is_captured_once(memos: MemOS, options: dict[str, Any]) -> None:
    """What was said before a person is asked for leave is memory already; after the resume all of it is, once."""
    answers = [calls(("weather", {"city": "Rome"}), text="Let me look."), "Sunny."]
    agent = create_agent(
        ScriptedModel(answers=answers),
        [weather],
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"weather": True}),
            MemosMiddleware(memos, **options),
        ],
        checkpointer=InMemorySaver(),
    )
    result = agent.invoke(said("Weather?"), ALICE)
    assert "__interrupt__" in result
    assert said_in(memory_of(memos, "alice")) == [("user", "Weather?")]
    agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), ALICE)
    assert said_in(memory_of(memos, "alice")) == [
        ("user", "Weather?"),
        ("assistant", "Let me look."),
        ("assistant", "Sunny."),
    ]


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}])
def test_branches_of_a_thread_are_both_remembered(memos: MemOS, options: dict[str, Any]) -> None:
    """A message edited under its id, and a new answer to an old message, stand beside what was said before."""
    agent = create_agent(
        ScriptedModel(answers=["Hello.", "Good day.", "Hello Bob."]),
        middleware=[MemosMiddleware(memos, **options)],
        checkpointer=InMemorySaver(),
    )
    agent.invoke({"messages": [HumanMessage("I am Al.", id="m1")]}, ALICE)
    asked = next(state.config for state in agent.get_state_history(ALICE) if state.next == ("model",))
    agent.invoke(None, for_alice(asked))
    edited = agent.update_state(asked, {"messages": [HumanMessage("I am Bob.", id="m1")]})
    agent.invoke(None, for_alice(edited))
    agent.invoke(None, for_alice(edited))
    assert said_in(memory_of(memos, "alice")) == [
        ("user", "I am Al."),
        ("assistant", "Hello."),
        ("assistant", "Good day."),
        ("user", "I am Bob."),
        ("assistant", "Hello Bob."),
        ("assistant", "Hello Bob."),
    ], "each answer is a message of its own, however alike they are"


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}])
def test_a_restart_repeats_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    """A thread that goes on under a new handle of the same folder is captured on from where it was."""
    saver, found = InMemorySaver(), []
    for answer, text in (("Hello.", "Hi."), ("Lisbon!", "I moved to Lisbon.")):
        with MemOS.open(tmp_path, embedder=HashEmbedder(), background=False) as memos:
            agent = create_agent(
                ScriptedModel(answers=[answer]),
                middleware=[MemosMiddleware(memos, **options)],
                checkpointer=saver,
            )
            agent.invoke(said(text), ALICE)
            found = said_in(memory_of(memos, "alice"))
    assert found == turns("Hi.", "Hello.", "I moved to Lisbon.", "Lisbon!")


def test_users_of_one_thread_keep_their_own(memos: MemOS) -> None:
    """Of a thread that two users share, each one's memory takes that user's turns, and recalls no other's."""
    model = ScriptedModel(answers=["Noted, Alice.", "Noted, Bob.", "Yes, Alice."])
    agent = create_agent(
        model,
        middleware=[MemosMiddleware(memos, min_score=0.0)],
        checkpointer=InMemorySaver(),
    )
    agent.invoke(said("I keep a narwhal."), ALICE)
    agent.invoke(said("I keep a quokka."), run_of("bob", "t1"))
    agent.invoke(said("What do I keep?"), ALICE)
    assert said_in(memory_of(memos, "bob")) == turns("I keep a quokka.", "Noted, Bob.")
    assert said_in(memory_of(memos, "alice")) == turns(
        "I keep a narwhal.", "Noted, Alice.", "What do I keep?", "Yes, Alice."
    )
    asked = str(model.requests[2][-1].content)
    assert "narwhal" in asked
    assert "quokka" not in asked


@pytest.mark.parametrize(
    "options", [{}, {"user_id": "alice"}, {"capture_on": "model"}, {"roles": {"user", "assistant", "tool"}}]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_summary_takes_nothing_from_memory(memos: MemOS, options: dict[str, Any], *, first: bool) -> None:
    """Originals are captured once and summaries never, in long loops of tools and over turns, in either order."""
    summarising = SummarizationMiddleware(
        ScriptedModel(answers=["SUMMARY"]), trigger=("messages", 3), keep=("messages", 1)
    )
    own = MemosMiddleware(memos, **options)
    looks = [calls(("weather", {"city": city}), text=f"Look at {city}.") for city in ("Rome", "Oslo", "Bern")]
    model = ScriptedModel(answers=[*looks, "Sunny all over.", "Goodbye.", *looks, "Still sunny."])
    chain: list[AgentMiddleware[Any, Any]] = [own, summarising] if first else [summarising, own]
    agent = create_agent(model, [weather], middleware=chain, checkpointer=InMemorySaver())
    result = [agent.invoke(said(text), ALICE) for text in ("How is the weather?", "Thanks.", "And now?")][-1]
    assert "SUMMARY" in str(result["messages"])
    assert "How is the weather?" not in str(result["messages"])
    looked = [
        turn
        for city in ("Rome", "Oslo", "Bern")
        for turn in (("assistant", f"Look at {city}."), ("tool", f"Sunny in {city}."))
    ]
    expected = [
        ("user", "How is the weather?"),
        *looked,
        ("assistant", "Sunny all over."),
        ("user", "Thanks."),
        ("assistant", "Goodbye."),
        ("user", "And now?"),
        *looked,
        ("assistant", "Still sunny."),
    ]
    roles = options.get("roles", {"user", "assistant"})
    assert said_in(memory_of(memos, "alice")) == [turn for turn in expected if turn[0] in roles]


def test_what_was_injected_is_never_captured(memos: MemOS) -> None:
    """A model that repeats the memories it was shown adds no memory of memories."""
    memory_of(memos, "alice").add("Alice likes green tea.")

    class Parrot(ScriptedModel):
        """Answers with what it was asked."""

        def _next(self, messages: list[Any], tool_names: Any = (), **kwargs: Any) -> AIMessage:
            super()._next(messages)
            return AIMessage(messages[-1].content)

    agent = create_agent(Parrot(answers=[""]), middleware=[MemosMiddleware(memos, min_score=0.0)])
    result = agent.invoke(said("Which tea?"), ALICE)
    assert "<memories>" in result["messages"][-1].content
    assert said_in(memory_of(memos, "alice")) == turns("Which tea?", "Which tea?")


def test_roles_and_media(memos: MemOS) -> None:
    """Tool output and system messages are memory where they are asked for; an image is a line with its hash."""
    image = {"type": "image", "base64": "aGVsbG8=", "mime_type": "image/png"}
    asked: list[AnyMessage | dict[str, Any]] = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "Look."}, image]),
    ]
    expected = [
        ("system", "Be brief."),
        (
            "user",
            "Look.\n[image image/png sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824]",
        ),
        ("tool", "Sunny in Rome."),
        ("assistant", "Sunny."),
    ]
    for roles in ({"user", "assistant"}, {"user", "tool"}, {"system"}):
        user = "-".join(sorted(roles))
        model = ScriptedModel(answers=[calls(("weather", {"city": "Rome"})), "Sunny."])
        agent = create_agent(
            model, [weather], middleware=[MemosMiddleware(memos, roles=roles, whole_thread=True)]
        )
        agent.invoke({"messages": asked}, run_of(user, "t1"))
        assert said_in(memory_of(memos, user)) == [turn for turn in expected if turn[0] in roles]


class FragileEmbedder(HashEmbedder):
    """Fails while it is broken."""

    broken = False

    def embed(self, texts: Any) -> Any:
        """As its parent, or not at all."""
        if self.broken:
            raise RuntimeError(f"out of memory: {texts}")
        return super().embed(texts)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[MemOS, FragileEmbedder]]:
    """A root whose embedder can be broken, and that embedder."""
    embedder = FragileEmbedder()
    with MemOS.open(tmp_path / "fragile", embedder=embedder, background=False) as memos:
        yield memos, embedder


def test_a_capture_that_fails_is_told(fragile: tuple[MemOS, FragileEmbedder]) -> None:
    """By default the run fails after its answer is in the state; resumed, it captures the turn."""
    memos, embedder = fragile
    middleware = MemosMiddleware(memos, inject=None)
    agent = create_agent(
        ScriptedModel(answers=["Hello."]), middleware=[middleware], checkpointer=InMemorySaver()
    )
    embedder.broken = True
    with pytest.raises(RuntimeError, match="out of memory"):
        agent.invoke(said("Hi."), ALICE)
    assert agent.get_state(ALICE).values["messages"][-1].content == "Hello."
    assert middleware.counts.failed_captures == 1
    embedder.broken = False
    agent.invoke(None, ALICE)
    assert said_in(memory_of(memos, "alice")) == turns("Hi.", "Hello.")


def test_an_answer_may_matter_more_than_memory(
    fragile: tuple[MemOS, FragileEmbedder], caplog: pytest.LogCaptureFixture
) -> None:
    """With `log` the run goes on, the failure is counted and told, and a thread handed over whole makes up for it."""
    memos, embedder = fragile
    middleware = MemosMiddleware(memos, user_id="alice", inject=None, capture_errors="log")
    agent = create_agent(
        ScriptedModel(answers=["Hello.", "Yes."]), middleware=[middleware], checkpointer=InMemorySaver()
    )
    embedder.broken = True
    result = agent.invoke(said("Hi."), ALICE)
    assert result["messages"][-1].content == "Hello."
    assert middleware.counts.failed_captures == 1
    assert [record.getMessage() for record in caplog.records] == ["what was said could not be captured"]
    assert "Hi." not in str(caplog.records[0].__dict__)
    embedder.broken = False
    agent.invoke(said("There?"), ALICE)
    assert said_in(memory_of(memos, "alice")) == turns("Hi.", "Hello.", "There?", "Yes.")


def test_who_may_not_write_is_refused(memos: MemOS) -> None:
    """A right that is missing stops the run, whatever is preferred."""
    shared = memos.acting_as(Scope(user="alice")).cube("shared")
    shared.add("Our tea is green.")
    shared.grant(Scope(user="bob"), "read")
    bobs = memos.acting_as(Scope(user="bob")).cube("shared", owner=Scope(user="alice"))
    agent = create_agent(
        ScriptedModel(answers=["Green."]), middleware=[MemosMiddleware(bobs, capture_errors="log")]
    )
    with pytest.raises(AccessDenied, match="write"):
        agent.invoke(said("Which tea?"), run_of("bob"))


def test_capture_is_a_choice(memos: MemOS) -> None:
    """None captures nothing; `model` has the words before the model is called, though it fails."""
    for capture_on, kept in ((None, []), ("turn", []), ("model", [("user", "Hi.")])):
        user = f"for-{capture_on}"
        own = MemosMiddleware(memos, capture_on=capture_on)  # type: ignore[arg-type] # -- a table of all choices
        agent = create_agent(ScriptedModel(answers=[RuntimeError("down")]), middleware=[own])
        with pytest.raises(RuntimeError, match="down"):
            agent.invoke(said("Hi."), run_of(user))
        assert said_in(memory_of(memos, user)) == kept
    agent = create_agent(
        ScriptedModel(answers=["Hello."]), middleware=[MemosMiddleware(memos, capture_on=None)]
    )
    agent.invoke(said("Hi."), run_of("nobody"))
    assert said_in(memory_of(memos, "nobody")) == []


@pytest.mark.parametrize("options", [{}, {"user_id": "alice"}])
def test_conversations_without_a_thread(memos: MemOS, options: dict[str, Any]) -> None:
    """Two that begin alike are both captured; one that is sent along with every turn is captured once."""
    agent = create_agent(ScriptedModel(answers=["Hello."]), middleware=[MemosMiddleware(memos, **options)])
    alice: RunnableConfig = run_of("alice")
    agent.invoke({"messages": [{"role": "user", "content": "hi"}]}, alice)
    agent.invoke({"messages": [{"role": "user", "content": "hi"}]}, alice)
    history: list[AnyMessage | dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "I moved"},
        {"role": "user", "content": "to Lisbon"},
    ]
    agent.invoke({"messages": history}, alice)
    assert said_in(memory_of(memos, "alice")) == [
        *turns("hi", "Hello."),
        *turns("hi", "Hello."),
        ("user", "I moved"),
        ("user", "to Lisbon"),
        ("assistant", "Hello."),
    ]


def test_only_settled_words_are_captured(memos: MemOS) -> None:
    """What other middleware takes out of an answer never reaches memory, nor does what it discards."""
    answers = [calls(("weather", {"city": "Rome"}), text="Write to al@x.org."), "Sunny, al@x.org."]
    for n, first in enumerate((True, False)):
        redacting = PIIMiddleware("email", strategy="redact", apply_to_output=True, apply_to_input=True)
        own = MemosMiddleware(memos, roles={"user", "assistant"})
        chain: list[AgentMiddleware[Any, Any]] = [redacting, own] if first else [own, redacting]
        agent = create_agent(ScriptedModel(answers=answers), [weather], middleware=chain)
        agent.invoke(said("I am bo@x.org."), run_of(f"user{n}"))
        found = said_in(memory_of(memos, f"user{n}"))
        assert "@" not in str(found)
        assert [role for role, _ in found] == ["user", "assistant", "assistant"]
