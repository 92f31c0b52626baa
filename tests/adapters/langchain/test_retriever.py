"""A retriever over memories: what a call finds, for whom, and what LangChain sees of it."""

from __future__ import annotations

import asyncio
import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.load import dumpd
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from memos_adapters.langchain import MemosRetriever
from memos_engine import (
    AccessDenied,
    BadInput,
    BadLimit,
    BadName,
    IdentityMissing,
    MemCube,
    MemOS,
    Message,
    Scope,
)
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

ALICE: RunnableConfig = {"configurable": {"user_id": "alice"}}
BOB: RunnableConfig = {"configurable": {"user_id": "bob"}}


@pytest.fixture
def memos(memos: MemOS) -> MemOS:
    """Alice's memory of tea, and Bob's."""
    for user in ("alice", "bob"):
        cube = memos.acting_as(Scope(user)).cube("memories")
        cube.add([f"{user} drinks {kind} tea" for kind in ("green", "black", "mint", "white", "iced")])
    return memos


def texts(documents: list[Document]) -> list[str]:
    """What the documents say."""
    return [document.page_content for document in documents]


def whose(documents: list[Document]) -> set[str]:
    """First word of each document: its user."""
    return {text.split()[0] for text in texts(documents)}


class TestStandard(RetrieversIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture(autouse=True)
    def _memos(self, memos: MemOS) -> None:
        self.memos = memos

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return MemosRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "user_id": "alice"}

    @property
    def retriever_query_example(self) -> str:
        return "tea"


# Whose memory


def test_a_call_names_its_user(memos: MemOS) -> None:
    """One retriever serves every user, each from their own memory, by keyword or by config."""
    retriever = MemosRetriever(memos)
    assert whose(retriever.invoke("tea", user_id="alice")) == {"alice"}
    assert whose(retriever.invoke("tea", ALICE)) == {"alice"}
    assert whose(retriever.invoke("tea", BOB)) == {"bob"}
    assert whose(retriever.invoke("tea", {"configurable": {"langgraph_user_id": "bob"}})) == {"bob"}
    assert whose(retriever.with_config(BOB).invoke("tea")) == {"bob"}
    assert whose(retriever.bind(user_id="alice").invoke("tea")) == {"alice"}
    with pytest.raises(AccessDenied):
        retriever.invoke("tea", BOB, user_id="alice")


async def test_an_awaited_call_names_its_user(memos: MemOS) -> None:
    """The same for `ainvoke`, also when calls for two users run at once."""
    retriever = MemosRetriever(memos)
    found = await asyncio.gather(*(retriever.ainvoke("tea", config) for config in [ALICE, BOB] * 10))
    assert [whose(each) for each in found] == [{"alice"}, {"bob"}] * 10
    assert whose(await retriever.ainvoke("tea", user_id="bob")) == {"bob"}


async def test_a_batch_has_a_config_for_each(memos: MemOS) -> None:
    """Batches, sync and awaited, keep the user of each input apart; keywords hold for all."""
    retriever = MemosRetriever(memos)
    assert [whose(each) for each in retriever.batch(["tea", "tea"], [ALICE, BOB])] == [{"alice"}, {"bob"}]
    found = await retriever.abatch(["tea", "tea"], [BOB, ALICE], k=1)
    assert [(whose(each), len(each)) for each in found] == [({"bob"}, 1), ({"alice"}, 1)]


async def test_a_chain_names_its_user(memos: MemOS) -> None:
    """Within a chain, or within a function that calls it, the chain's config counts."""
    retriever = MemosRetriever(memos)
    chain = RunnablePassthrough.assign(docs=RunnableLambda(lambda said: said["question"]) | retriever)
    assert whose(chain.invoke({"question": "tea"}, ALICE)["docs"]) == {"alice"}
    assert whose((await chain.ainvoke({"question": "tea"}, BOB))["docs"]) == {"bob"}

    def looked_up(question: str) -> list[Document]:
        return retriever.invoke(question)  # it is handed no config: LangChain's context has it

    assert whose(RunnableLambda(looked_up).invoke("tea", BOB)) == {"bob"}


async def test_what_wraps_it_names_its_user(memos: MemOS) -> None:
    """An ensemble, and a tool of LangChain's, hand the config of their call on."""
    ensemble = EnsembleRetriever(
        retrievers=[MemosRetriever(memos), MemosRetriever(memos, k=2)], weights=[0.5, 0.5]
    )
    assert whose(ensemble.invoke("tea", ALICE)) == {"alice"}
    assert len(ensemble.invoke("tea", ALICE)) == 4
    tool = create_retriever_tool(MemosRetriever(memos), "memory", "What is remembered.")
    assert "bob drinks" in tool.invoke({"query": "tea"}, BOB)
    assert "bob drinks" in await tool.ainvoke({"query": "tea"}, BOB)


class Said(TypedDict, total=False):
    """The state of a small graph."""

    question: str
    docs: list[Document]


async def test_a_graph_names_its_user(memos: MemOS) -> None:
    """Within a node of LangGraph the run's config counts."""
    retriever = MemosRetriever(memos)
    graph = StateGraph(Said)
    graph.add_node("look", lambda state: {"docs": retriever.invoke(state["question"])})
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    runs = graph.compile()
    assert whose(runs.invoke({"question": "tea"}, ALICE)["docs"]) == {"alice"}
    assert whose((await runs.ainvoke({"question": "tea"}, BOB))["docs"]) == {"bob"}


async def test_nobody_named_is_refused(memos: MemOS) -> None:
    """Without an identity there is no memory, and no default that anybody falls into."""
    with pytest.raises(IdentityMissing, match="user_id="):
        MemosRetriever(memos).invoke("tea")
    with pytest.raises(IdentityMissing):
        await MemosRetriever(memos).ainvoke("tea", {"configurable": {"thread_id": "t"}})
    with pytest.raises(BadName):
        MemosRetriever(memos).invoke("tea", user_id=" ")
    assert whose(MemosRetriever(memos, default_user="bob").invoke("tea")) == {"bob"}


def test_a_server_lets_nobody_search_anothers_memory(memos: MemOS) -> None:
    """As whom LangGraph's server let a caller in counts; one that lets everybody in leaves it to the config."""
    login: RunnableConfig = {"configurable": {"langgraph_auth_user_id": "alice"}}
    assert whose(MemosRetriever(memos).invoke("tea", login)) == {"alice"}
    with pytest.raises(AccessDenied):
        MemosRetriever(memos).invoke("tea", {"configurable": {**login["configurable"], "user_id": "bob"}})
    everybody: RunnableConfig = {"configurable": {"langgraph_auth_user_id": "", "user_id": "bob"}}
    assert whose(MemosRetriever(memos).invoke("tea", everybody)) == {"bob"}


def test_a_bound_retriever_serves_its_user_alone(memos: MemOS) -> None:
    """A call for another user is refused; a changed copy is bound to whom it names."""
    retriever = MemosRetriever(memos, user_id="alice")
    assert whose(retriever.invoke("tea", ALICE)) == {"alice"}
    with pytest.raises(AccessDenied):
        retriever.invoke("tea", BOB)
    with pytest.raises(AccessDenied):
        retriever.invoke("tea", user_id="bob")
    assert whose(retriever.model_copy(update={"user_id": "bob"}).invoke("tea")) == {"bob"}
    assert whose(copy.copy(retriever).invoke("tea")) == {"alice"}


def test_a_cube_is_one_memory(memos: MemOS) -> None:
    """A retriever over a cube searches it for whoever the cube was opened for."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    assert whose(MemosRetriever(cube).invoke("tea")) == {"alice"}
    with pytest.raises(AccessDenied):
        MemosRetriever(cube).invoke("tea", BOB)
    with pytest.raises(BadInput):
        MemosRetriever(cube, user_id="alice")


def test_isolation_by_agent(memos: MemOS) -> None:
    """With isolation by agent, each agent of a user finds its own memories, and must be named."""
    retriever = MemosRetriever(memos, isolation="agent")
    memos.acting_as(Scope("alice", "cook")).cube("memories/agent:cook").add("tea with salt")
    assert texts(retriever.invoke("tea", user_id="alice", agent_id="cook")) == ["tea with salt"]
    assert retriever.invoke("tea", user_id="alice", agent_id="maid") == []
    with pytest.raises(IdentityMissing, match="agent_id"):
        retriever.invoke("tea", user_id="alice")


# What is found


def test_a_document_tells_its_memory(memos: MemOS, cube: MemCube) -> None:
    """A document has the memory's id and text, and JSON of where it comes from and why it is there."""
    at = datetime(2025, 5, 1, 9, tzinfo=UTC)
    cube.capture([Message("user", "My cello is from 1890.", id="m1", name="Ann", at=at)], thread="t1")
    (found,) = MemosRetriever(cube, filter={"kinds": ["episode"]}).invoke("cello")
    assert found.page_content == "My cello is from 1890."
    assert cube.get(str(found.id)).text == found.page_content
    told = json.loads(json.dumps(found.metadata))
    assert told == found.metadata
    assert told["event_at"] == at.isoformat()
    wanted = {"kind": "episode", "role": "user", "speaker": "Ann", "thread": "t1", "message_id": "m1"}
    assert {name: told[name] for name in wanted} == wanted
    assert 0 < told["score"] <= 1
    assert any("keyword #1" in reason for reason in told["why"])


def test_k_by_field_and_by_call(memos: MemOS) -> None:
    """At most `k` documents: of the call, else of the retriever, else 4."""
    assert len(MemosRetriever(memos, user_id="alice").invoke("tea")) == 4
    retriever = MemosRetriever(memos, user_id="alice", k=2)
    assert len(retriever.invoke("tea")) == 2
    assert len(retriever.invoke("tea", k=5)) == 5
    chosen = retriever.configurable_fields(k=ConfigurableField(id="mem_k"))
    assert len(chosen.invoke("tea", {"configurable": {"mem_k": 3}})) == 3


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "3", 10_001])
def test_a_senseless_k_is_refused(memos: MemOS, k: Any) -> None:
    """A call refuses a `k` that is no number of documents."""
    with pytest.raises(BadLimit, match="k is"):
        MemosRetriever(memos, user_id="alice").invoke("tea", k=k)


def test_senseless_settings_are_refused_at_once(memos: MemOS) -> None:
    """What every call would refuse, the constructor refuses."""
    with pytest.raises(BadLimit):
        MemosRetriever(memos, k=0)
    with pytest.raises(BadInput, match=r"MemOS\.open"):
        MemosRetriever("memories")  # type: ignore[arg-type] # -- what is tested
    with pytest.raises(BadInput, match="'topk'"):
        MemosRetriever(memos, user_id="alice").invoke("tea", topk=1)


def test_filters_of_field_and_call(cube: MemCube) -> None:
    """A call's filter is added to the retriever's, and has the last word on a field."""
    cube.add("a note on tea")
    cube.capture([Message("user", "tea", id="1", name="Ann")], thread="t1")
    cube.capture([Message("user", "tea", id="1", name="Bea")], thread="t2")
    retriever = MemosRetriever(cube, filter={"kinds": ["episode"]}, k=9)
    assert len(retriever.invoke("tea")) == 2
    assert [each.metadata["thread"] for each in retriever.invoke("tea", filter={"thread": "t2"})] == ["t2"]
    assert [each.metadata["speaker"] for each in retriever.invoke("tea", filter={"speaker": "Ann"})] == [
        "Ann"
    ]
    assert texts(retriever.invoke("tea", filter={"kinds": ["note"]})) == ["a note on tea"]
    with pytest.raises(BadInput, match="colour"):
        retriever.invoke("tea", filter={"colour": "green"})


def test_a_least_score(memos: MemOS) -> None:
    """What scores less than `min_score` is left out."""
    retriever = MemosRetriever(memos, user_id="alice", k=5)
    scores = [document.metadata["score"] for document in retriever.invoke("green tea")]
    assert scores == sorted(scores, reverse=True)
    assert scores[1] < scores[0]
    assert len(retriever.invoke("green tea", min_score=scores[0])) == 1
    assert MemosRetriever(memos, user_id="alice", min_score=1.0).invoke("mint leaves") == []


def test_recall_is_silent_where_memory_is(memos: MemOS) -> None:
    """In mode `recall` a question that is likely not answered finds nothing; a search finds the nearest."""
    question = "What did the captain say about the submarine and the alice?"
    assert len(MemosRetriever(memos, user_id="alice").invoke(question)) == 4
    recalling = MemosRetriever(memos, user_id="alice", mode="recall", k=2, min_score=0.5)
    assert recalling.invoke(question) == []
    assert len(recalling.invoke(question, min_score=0.0)) == 2
    assert "alice drinks green tea" in texts(recalling.invoke("who drinks green tea"))
    brief = MemosRetriever(memos, user_id="alice", mode="recall", k=5, budget_tokens=60)
    assert 0 < len(brief.invoke("who drinks green tea")) < 5


def test_a_blank_query_finds_nothing(memos: MemOS) -> None:
    """A chain's empty question is no error."""
    assert MemosRetriever(memos, user_id="alice").invoke(" \n") == []


# What LangChain sees


class Heard(BaseCallbackHandler):
    """Keeps what a retriever tells its callbacks."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        """Keep the query."""
        self.events.append(("start", query))

    def on_retriever_end(self, documents: Any, **kwargs: Any) -> None:
        """Keep how many were found."""
        self.events.append(("end", len(documents)))

    def on_retriever_error(self, error: BaseException, **kwargs: Any) -> None:
        """Keep what failed."""
        self.events.append(("error", type(error)))


async def test_callbacks_hear_of_it(memos: MemOS) -> None:
    """Start and end, or the error, reach the callbacks of a call."""
    heard = Heard()
    config: RunnableConfig = {"callbacks": [heard], "configurable": {"user_id": "alice"}}
    retriever = MemosRetriever(memos, k=1)
    retriever.invoke("tea", config)
    await retriever.ainvoke("tea", config)
    assert heard.events == [("start", "tea"), ("end", 1)] * 2
    with pytest.raises(IdentityMissing):
        retriever.invoke("tea", {"callbacks": [heard]})
    assert heard.events[-1] == ("error", IdentityMissing)


def test_the_handle_is_in_no_dump(memos: MemOS) -> None:
    """Settings can be dumped and shown; the engine's handle is in none of it."""
    retriever = MemosRetriever(memos, user_id="alice", k=2)
    assert retriever.model_dump(exclude_unset=True) == {"user_id": "alice", "k": 2}
    assert "memos" not in json.loads(retriever.model_dump_json())
    assert "MemOS" not in repr(retriever)
    assert "MemOS object" not in json.dumps(dumpd(retriever))


async def test_a_search_does_not_block_the_loop(tmp_path: Path) -> None:
    """While the model embeds, other coroutines run."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos:
        memos.acting_as(Scope("alice")).cube("memories").add("alice drinks tea")
        retriever = MemosRetriever(memos, user_id="alice")
        with nothing_blocks():
            assert whose(await retriever.ainvoke("tea")) == {"alice"}
            assert await retriever.abatch(["", "tea"], k=1)
