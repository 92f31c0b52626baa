"""A chat model that remembers: whose memory it reads, what it is asked, what it tells and what is captured."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableConfig, RunnableLambda
from langchain_core.tools import tool

from memos_adapters._text import rendered
from memos_adapters.langchain import MemosChatModel
from memos_engine import (
    AccessDenied,
    BadInput,
    HttpChatModel,
    IdentityMissing,
    LocalModel,
    MemOS,
    Message,
    ModelFailed,
    ModelUnavailable,
    Scope,
)
from memos_engine.testing.fakes import ScriptedChatModel
from tests.adapters.chat_models import asked, memory_of, said_to, tiny_folder, tiny_model

ALICE: RunnableConfig = {"configurable": {"user_id": "alice"}}
BOB: RunnableConfig = {"configurable": {"user_id": "bob"}}
DOG = "What is my dog called?"


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice's dog and Bob's, each in a conversation of their own."""
    for user, dog in (("alice", "Bruno"), ("bob", "Rex")):
        memory_of(memos, user).capture([Message("user", f"My dog is called {dog}.")], thread="earlier")
    return memos


def of(memos: MemOS, *answers: str | Exception, **fields: Any) -> tuple[MemosChatModel, ScriptedChatModel]:
    """A chat model over one that answers by script."""
    script = ScriptedChatModel(*answers)
    return MemosChatModel(memos, model=script, **{"min_score": 0.0, **fields}), script


# Whose memory


def within(model: MemosChatModel, text: str) -> str:
    """Ask in a function of a chain, which hands no config on."""

    def ask(text: str) -> str:
        return model.invoke(text).text

    return RunnableLambda(ask).invoke(text, ALICE)


CALLS: dict[str, Callable[[MemosChatModel], object]] = {
    "config": lambda model: model.invoke(DOG, ALICE),
    "keyword": lambda model: model.invoke(DOG, user_id="alice"),
    "bind": lambda model: model.bind(user_id="alice").invoke(DOG),
    "with_config": lambda model: model.with_config(ALICE).invoke(DOG),
    "langgraph": lambda model: model.invoke(DOG, {"configurable": {"langgraph_user_id": "alice"}}),
    "login": lambda model: model.invoke(DOG, {"configurable": {"langgraph_auth_user_id": "alice"}}),
    "retry": lambda model: model.with_retry().invoke(DOG, ALICE),
    "batch": lambda model: model.batch([DOG], [ALICE]),
    "stream": lambda model: list(model.stream(DOG, ALICE)),
    "context": lambda model: within(model, DOG),
    "chain": lambda model: (ChatPromptTemplate.from_messages([("user", "{q}")]) | model).invoke(
        {"q": DOG}, ALICE
    ),
}
"""Ways to name a call's user."""


@pytest.mark.parametrize("call", CALLS)
def test_a_call_says_whose_memory_is_read(memos: MemOS, call: str) -> None:
    """However a call names its user, that user's memory stands in the prompt, and no other's."""
    model, script = of(memos, "Bruno.")
    CALLS[call](model)
    assert "Bruno" in asked(script)
    assert "Rex" not in asked(script)
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]
    assert len(said_to(memos, "bob")) == 1


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_events_are_streamed_for_the_user_of_their_config(memos: MemOS) -> None:
    """The third version of LangChain's events reads the memory of whom the config names."""
    model, script = of(memos, "Bruno.")
    stream = model.stream_events(DOG, ALICE, version="v3")
    assert stream.output.text == "Bruno."
    assert "Bruno" in asked(script)
    assert said_to(memos, "alice")[2] == ("assistant", "Bruno.")


def test_nobody_named_is_refused(memos: MemOS) -> None:
    """Without an identity there is no memory, and the model is not asked."""
    model, script = of(memos)
    with pytest.raises(IdentityMissing):
        model.invoke(DOG)
    with pytest.raises(IdentityMissing):
        list(model.stream(DOG, {"configurable": {"thread_id": "t"}}))
    assert script.prompts == []


def test_a_call_for_another_user_is_refused(memos: MemOS) -> None:
    """A model that is bound to a user serves nobody else; a call that names two serves neither."""
    model, script = of(memos, user_id="alice")
    with pytest.raises(AccessDenied):
        model.invoke(DOG, BOB)
    free, _ = of(memos)
    with pytest.raises(AccessDenied):
        free.invoke(DOG, ALICE, user_id="bob")
    with pytest.raises(AccessDenied):
        free.invoke(DOG, {"configurable": {"user_id": "bob", "langgraph_auth_user_id": "alice"}})
    assert script.prompts == []


def test_a_changed_copy_acts_for_whom_it_names(memos: MemOS) -> None:
    """A copy bound to another user reads that user's memory."""
    model, script = of(memos, "Rex.", "Bruno.", "Bruno.", user_id="alice")
    model.model_copy(update={"user_id": "bob"}).invoke(DOG)
    assert "Rex" in asked(script)
    copy.copy(model).invoke(DOG)
    assert "Rex" not in asked(script)
    chosen = model.configurable_fields(user_id=ConfigurableField(id="whose"))
    chosen.invoke(DOG)
    assert "Rex" not in asked(script)


def test_no_cache_of_langchains_holds_an_answer(memos: MemOS) -> None:
    """A cache for all models, which knows neither users nor what is remembered by now, is never asked."""
    set_llm_cache(InMemoryCache())
    try:
        model, _ = of(memos, "Bruno.", "Bruno, as before.")
        assert model.invoke(DOG, ALICE).text == "Bruno."
        assert model.invoke(DOG, ALICE).text == "Bruno, as before."
    finally:
        set_llm_cache(None)
    with pytest.raises(BadInput, match="cache"):
        of(memos, cache=True)


def test_who_may_not_write_is_told_before_the_model_is_asked(memos: MemOS) -> None:
    """A reader of somebody's memory can ask with `capture=False` alone."""
    memory_of(memos, "alice").grant(Scope("carol"), "read")
    shared = memos.acting_as(Scope("carol")).cube("memories", owner=Scope("alice"))
    script = ScriptedChatModel("Bruno.")
    model = MemosChatModel(shared, model=script, min_score=0.0)
    with pytest.raises(AccessDenied):
        model.invoke(DOG)
    assert script.prompts == []
    assert model.invoke(DOG, capture=False).text == "Bruno."
    assert "Bruno" in asked(script)


# What is asked and told


def test_a_conversation_reaches_the_model_in_its_roles(memos: MemOS) -> None:
    """All keep their roles, chunks of a stream too; memories stand at the head of the last human message."""
    model, script = of(memos, "Bruno.", user_id="alice")
    model.invoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("Hello."),
            AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Hi."}]),
            HumanMessage("A cat too."),
            AIMessageChunk(content="Both."),
            HumanMessage([{"type": "text", "text": DOG}]),
        ]
    )
    (prompt,) = script.prompts
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message.role for message in prompt] == roles
    texts = [message.content for message in prompt[:-1]]
    assert texts == ["Be brief.", "Hello.", "Hi.", "A cat too.", "Both."]
    assert prompt[-1].content.endswith(f"</memories>\n\n{DOG}")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (ToolMessage("5", tool_call_id="1"), "answers of tools"),
        (FunctionMessage(content="5", name="add"), "answers of functions"),
        (AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}]), "calls tools"),
        (HumanMessage([{"type": "image", "url": "https://example.com/cat.png"}]), "'image'"),
        (
            HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]),
            "'image'",
        ),
        (RemoveMessage("m1"), "removal"),
        (AIMessage("Hi."), "must be what is to be answered"),
    ],
)
def test_what_a_text_model_cannot_read_is_refused(memos: MemOS, message: BaseMessage, told: str) -> None:
    """Tools and images are refused with what to do instead, and nothing is captured."""
    model, script = of(memos, user_id="alice")
    with pytest.raises(BadInput, match=told):
        model.invoke([HumanMessage("Hello."), message])
    assert script.prompts == []
    assert len(said_to(memos, "alice")) == 1


def test_tools_cannot_be_bound(memos: MemOS) -> None:
    """It says that it calls no tools, where they are bound and where they are handed over."""

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    model, _ = of(memos, "Yes.", user_id="alice")
    with pytest.raises(BadInput, match="calls no tools"):
        model.bind_tools([weather])
    with pytest.raises(BadInput, match="calls no tools"):
        model.with_structured_output({"title": "t", "description": "d", "type": "object", "properties": {}})
    with pytest.raises(BadInput, match="calls no tools"):
        model.invoke(DOG, tools=[{"type": "function"}])
    assert model.bind_tools([]).invoke(DOG).text == "Yes."


def test_an_answer_tells_how_it_was_made(memos: MemOS) -> None:
    """Tokens, what ended it, which memories were read and how, all as JSON."""
    item = memory_of(memos, "alice").list(kinds=["episode"])[0]
    model = MemosChatModel(memos, model=tiny_model(), user_id="alice", min_score=0.0, max_tokens=4)
    answer = model.invoke(DOG)
    told = answer.response_metadata
    assert json.loads(json.dumps(told)) == told
    assert told["model_provider"] == "memos"
    assert told["finish_reason"] in {"stop", "length"}
    assert told["memos"]["memories"] == [item.id]
    assert told["memos"]["error_class"] == "exact"
    usage = answer.usage_metadata
    assert usage is not None
    assert usage["input_tokens"] > len(DOG)
    assert 0 <= usage["output_tokens"] <= 4
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_model_that_tells_no_tokens(memos: MemOS) -> None:
    """Of a model that counts no tokens there is no usage, rather than a guess."""
    model, _ = of(memos, "Bruno.", user_id="alice")
    answer = model.invoke(DOG)
    assert answer.usage_metadata is None
    assert answer.response_metadata["model_name"] == "ScriptedChatModel"


def test_memories_with_blocks_are_not_read_again(memos: MemOS) -> None:
    """Memories whose keys and values are kept are not read as text, and the answer tells it."""
    cube = memory_of(memos, "alice")
    (item,) = cube.list(kinds=["episode"])
    cube.activation.build(tiny_model(), [item.id])
    model = MemosChatModel(memos, model=tiny_model(), user_id="alice", min_score=0.0, max_tokens=4)
    asking = [SystemMessage("Be brief."), HumanMessage(DOG)]
    told = model.invoke(asking, policy="rerotated", capture=False).response_metadata["memos"]
    assert told["memories"] == [item.id]
    assert told["method"] == "rerotated"
    assert told["cached_tokens"] >= len(item.text)
    full = model.invoke(asking, policy="full", capture=False).response_metadata["memos"]
    assert full["memories"] == [item.id]
    assert full["method"] != "rerotated"


def test_the_next_turn_reads_only_what_is_new(memos: MemOS) -> None:
    """What was read in one turn of a conversation is not read again in the next."""
    model = MemosChatModel(memos, model=tiny_model(), user_id="alice", budget_tokens=0, max_tokens=4)
    first: list[BaseMessage] = [
        SystemMessage("You speak of cats and dogs, and of nothing else. " * 2),
        HumanMessage("Hello."),
    ]
    said = model.invoke(first)
    assert said.usage_metadata is not None
    more = model.invoke([*first, said, HumanMessage("And then?")])
    assert more.usage_metadata is not None
    cached = more.usage_metadata["input_token_details"]["cache_read"]
    assert cached >= said.usage_metadata["input_tokens"] // 2
    stranger = MemosChatModel(memos, model=tiny_model(), user_id="bob", budget_tokens=0, max_tokens=4)
    other = stranger.invoke([*first, said, HumanMessage("And then?")])
    assert other.usage_metadata is not None
    assert other.usage_metadata["input_token_details"]["cache_read"] == 0


def test_settings_of_field_and_call(memos: MemOS) -> None:
    """A setting of the call overrules the model's; the answer ends before a stop string."""
    model, script = of(memos, *["Bruno, of course."] * 5, user_id="alice", stop=[", of"])
    assert model.invoke(DOG).text == "Bruno"
    assert model.invoke(DOG, stop=["uno"]).text == "Br"
    model.invoke(DOG, budget_tokens=0)
    assert asked(script) == DOG
    short = MemosChatModel(memos, model=tiny_model(), user_id="alice", max_tokens=8, budget_tokens=0)
    usage = short.invoke(DOG, max_tokens=1).usage_metadata
    assert usage is not None
    assert usage["output_tokens"] <= 1
    with pytest.raises(BadInput, match=r"'topk'.*top_k"):
        model.invoke(DOG, topk=3)


# Which model


def test_a_model_by_its_folder_is_loaded_once(memos: MemOS, tmp_path: Path) -> None:
    """A folder is loaded by the first answer, and all chat models that name it share what was loaded."""
    folder = tiny_folder(tmp_path / "model")
    one = MemosChatModel(memos, model=str(folder), user_id="alice", max_tokens=1, budget_tokens=0)
    two = MemosChatModel(memos, model=folder, user_id="bob", max_tokens=1, budget_tokens=0)
    assert one._model() is two._model()
    assert one._model().loaded is None
    assert one.invoke("Hello").response_metadata["model_name"] == str(folder)
    loaded = one._model().loaded
    assert isinstance(loaded, LocalModel)
    two.invoke("Hello")
    assert two._model().loaded is loaded
    assert one.get_num_tokens("Hello") == 5, "by its own tokenizer, which reads bytes"


def test_what_is_no_model_is_refused_at_once(memos: MemOS) -> None:
    """The constructor refuses what cannot answer, and a memory that is none."""
    with pytest.raises(BadInput, match="LocalModel"):
        MemosChatModel(memos, model=object())
    with pytest.raises(BadInput, match=r"MemOS\.open"):
        MemosChatModel("memories", model=ScriptedChatModel())  # type: ignore[arg-type] # -- what is tested
    with pytest.raises(BadInput, match="memories"):
        MemosChatModel(memos, model=ScriptedChatModel(), template="no place")
    with pytest.raises(ModelUnavailable):
        MemosChatModel(memos, model="/nowhere/at/all", user_id="alice").invoke("Hello")


def test_nothing_secret_is_shown(memos: MemOS) -> None:
    """What tracing sees of the model names it and its settings, and neither the memory nor a server's key."""
    server = HttpChatModel("http://localhost:9", "llama", api_key="sk-secret")
    model = MemosChatModel(memos, model=server, user_id="alice", temperature=0.5)
    assert model._identifying_params == {"model_name": "llama", "temperature": 0.5}
    shown = f"{model!r} {model.model_dump_json()} {json.dumps(dumpd(model))} {model._get_ls_params()}"
    assert "secret" not in shown
    assert "MemOS object" not in shown
    assert model._get_ls_params()["ls_provider"] == "memos"
    assert model._get_ls_params()["ls_model_name"] == "llama"


def test_its_profile_is_honest(memos: MemOS) -> None:
    """It claims neither tools nor images, and knows how much its model reads."""
    profile = MemosChatModel(memos, model=tiny_model(), user_id="alice").profile
    assert profile is not None
    assert profile["max_input_tokens"] == 512
    assert not profile["tool_calling"]
    assert not profile["image_inputs"]


# What is captured


def test_a_turn_is_captured_with_its_thread(memos: MemOS) -> None:
    """What was said since the last answer is captured, under the thread that the config names."""
    model, _ = of(memos, "Both.")
    talk = [HumanMessage("Hello."), AIMessage("Hi."), HumanMessage("A cat too."), HumanMessage("Which one?")]
    model.invoke(
        [SystemMessage("Be brief."), *talk], {"configurable": {"user_id": "alice", "thread_id": "t1"}}
    )
    turns = list(reversed(memory_of(memos, "alice").list(kinds=["episode"], thread="t1")))
    assert [(turn.role, turn.text) for turn in turns] == [
        ("user", "A cat too."),
        ("user", "Which one?"),
        ("assistant", "Both."),
    ]


def test_a_message_with_an_id_is_captured_once(memos: MemOS) -> None:
    """A question that is asked again under its id is not remembered twice; without ids each is new."""
    model, _ = of(memos, "One.", "Two.", "Three.", user_id="alice", session_id="t1")
    model.invoke([HumanMessage(DOG, id="m1")])
    model.invoke([HumanMessage(DOG, id="m1")])
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "One."), ("assistant", "Two.")]
    model.invoke(DOG)
    assert said_to(memos, "alice")[4:] == [("user", DOG), ("assistant", "Three.")]


def test_retries_capture_once(memos: MemOS) -> None:
    """An answer that fails captures nothing; the one that comes in the end is captured with its question."""
    model, script = of(memos, ModelFailed("no"), ModelFailed("no"), "Bruno.", user_id="alice")
    retried = model.with_retry(retry_if_exception_type=(ModelFailed,), wait_exponential_jitter=False)
    assert retried.invoke(DOG).text == "Bruno."
    assert len(script.prompts) == 3
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]


def test_capture_can_be_left_out(memos: MemOS) -> None:
    """With `capture=False`, of the model or of a call, nothing is remembered."""
    model, _ = of(memos, "Bruno.", "Bruno.", "Bruno.", user_id="alice", capture=False)
    model.invoke(DOG)
    assert len(said_to(memos, "alice")) == 1
    model.invoke(DOG, capture=True)
    assert len(said_to(memos, "alice")) == 3
    of(memos, "Bruno.", user_id="alice")[0].invoke(DOG, capture=False)
    assert len(said_to(memos, "alice")) == 3


def test_memories_in_a_message_are_neither_read_twice_nor_captured(memos: MemOS) -> None:
    """What a middleware put at the head of a message gives way to the model's own recall."""
    model, script = of(memos, "Bruno.", "Bruno.", user_id="alice")
    recalled = memory_of(memos, "alice").recall(DOG, min_score=0.0).text
    injected = f"{rendered(recalled)}\n\n{DOG}"
    model.invoke([HumanMessage(injected)])
    assert asked(script).count("called Bruno") == 1
    assert said_to(memos, "alice")[1:] == [("user", DOG), ("assistant", "Bruno.")]
    model.invoke([HumanMessage(injected)], budget_tokens=0)
    assert asked(script) == injected, "a model that recalls nothing reads what others recalled"
    assert ("user", injected) not in said_to(memos, "alice")


def test_texts_that_no_store_takes_are_mended(memos: MemOS) -> None:
    """A NUL and half a character lose no turn; roles of one's own reach the model as text."""
    model, script = of(memos, "Yes\0.", user_id="alice")
    model.invoke([ChatMessage(content="Off stage.", role="narrator"), HumanMessage("a\0b \ud83d")])
    assert said_to(memos, "alice")[-1] == ("assistant", "Yes\ufffd.")
    assert "narrator: Off stage." in asked(script)
    assert "a\ufffdb \ufffd" in asked(script)


def test_a_misspelt_setting_is_refused(memos: MemOS) -> None:
    """A setting that is none is told, with the nearest that is one."""
    with pytest.raises(BadInput, match=r"'polcy'.*perhaps you mean 'policy'"):
        MemosChatModel(memos, model="no-model", user_id="alice", polcy="full")
