"""Real graphs over the saver: durability, interrupts, forks, time travel, subgraphs, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Durability, Send, interrupt

from memos_adapters.langgraph.saver import MemosSaver
from tests.adapters.langgraph.saver_cases import config, counting, id_of, ids

DURABILITIES = ["sync", "async", "exit"]


@pytest.fixture
def saver() -> Iterator[MemosSaver]:
    """Lend a saver of a folder of its own."""
    with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


@pytest.fixture
async def asaver() -> AsyncIterator[MemosSaver]:
    """Lend one that was opened from a loop."""
    async with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


class Order(TypedDict):
    """What is asked, and what was answered."""

    log: Annotated[list[str], add]
    answer: str


def asking() -> StateGraph[Any]:
    """A graph that asks a human between two steps."""

    def before(state: Order) -> dict[str, Any]:
        return {"log": ["before"]}

    def ask(state: Order) -> dict[str, Any]:
        return {"answer": interrupt({"question": "go on?"}), "log": ["asked"]}

    def after(state: Order) -> dict[str, Any]:
        return {"log": [f"after {state['answer']}"]}

    builder: StateGraph[Any] = StateGraph(Order)
    for node in (before, ask, after):
        builder.add_node(node)
    builder.add_edge(START, "before")
    builder.add_edge("before", "ask")
    builder.add_edge("ask", "after")
    builder.add_edge("after", END)
    return builder


class TestDurability:
    @pytest.mark.parametrize("durability", DURABILITIES)
    def test_runs_end_alike(self, saver: MemosSaver, durability: Durability) -> None:
        """However often it is stored, the state at the end is the same, and a later run goes on from it."""
        graph = counting(5).compile(checkpointer=saver)
        assert graph.invoke({"n": 0, "seen": []}, config(), durability=durability)["n"] == 5
        assert graph.get_state(config()).values == {"n": 5, "seen": [0, 1, 2, 3, 4]}
        assert len(ids(saver, config())) == (1 if durability == "exit" else 7)
        assert graph.invoke({"n": 4}, config(), durability=durability)["seen"] == [0, 1, 2, 3, 4, 4]

    @pytest.mark.parametrize("durability", DURABILITIES)
    async def test_runs_end_alike_asynchronously(self, asaver: MemosSaver, durability: Durability) -> None:
        """The same from a loop, many threads at once."""
        graph = counting(5).compile(checkpointer=asaver)
        runs = [
            graph.ainvoke({"n": 0, "seen": [n]}, config(n), durability=durability) for n in range(100, 106)
        ]
        assert [run["seen"][0] for run in await asyncio.gather(*runs)] == list(range(100, 106))
        for n in range(100, 106):
            assert (await graph.aget_state(config(n))).values == {"n": 5, "seen": [n, 0, 1, 2, 3, 4]}

    def test_a_folder_is_reopened(self, tmp_path: Path) -> None:
        """What was stored is there for the next process."""
        for expected in ([0, 1], [0, 1, 1]):
            with MemosSaver.from_conn_string(tmp_path) as saver:
                graph = counting(2).compile(checkpointer=saver)
                start = {"n": len(expected) - 2, "seen": []}
                assert graph.invoke(start, config())["seen"] == expected


class TestInterrupts:
    @pytest.mark.parametrize("durability", DURABILITIES)
    def test_a_human_answers(self, saver: MemosSaver, durability: Durability) -> None:
        """The question waits in the store; the answer is not asked for again."""
        graph = asking().compile(checkpointer=saver)
        asked = graph.invoke({"log": ["in"]}, config(), durability=durability)
        assert asked["__interrupt__"][0].value == {"question": "go on?"}
        state = graph.get_state(config())
        assert (state.next, [each.value for each in state.interrupts]) == (("ask",), [{"question": "go on?"}])
        done = graph.invoke(Command(resume="yes"), config(), durability=durability)
        assert done == {"log": ["in", "before", "asked", "after yes"], "answer": "yes"}
        assert graph.get_state(config()).next == ()

    async def test_a_human_answers_after_a_restart(self, tmp_path: Path) -> None:
        """Asked in one opening of the folder, answered in the next, asynchronously."""
        async with MemosSaver.from_conn_string(tmp_path) as saver:
            await asking().compile(checkpointer=saver).ainvoke({"log": ["in"]}, config())
        async with MemosSaver.from_conn_string(tmp_path) as saver:
            graph = asking().compile(checkpointer=saver)
            done = await graph.ainvoke(Command(resume="later"), config())
        assert done["log"] == ["in", "before", "asked", "after later"]

    def test_it_stops_before_a_node(self, saver: MemosSaver) -> None:
        """State may be changed while it waits."""
        graph = asking().compile(checkpointer=saver, interrupt_before=["after"])
        graph.invoke({"log": ["in"]}, config())
        graph.invoke(Command(resume="yes"), config())
        assert graph.get_state(config()).next == ("after",)
        graph.update_state(config(), {"answer": "changed"})
        assert graph.invoke(None, config())["log"][-1] == "after changed"


class TestTimeTravel:
    def test_history_is_that_of_memory(self, saver: MemosSaver) -> None:
        """Each state in the past, its tasks and its metadata, as LangGraph's own saver has them."""
        histories = []
        for each in (InMemorySaver(), saver):
            graph = asking().compile(checkpointer=each)
            graph.invoke({"log": ["in"]}, config())
            graph.invoke(Command(resume="yes"), config())
            graph.update_state(config(), {"log": ["updated"]}, as_node="ask")
            histories.append(
                [
                    (state.values, state.next, state.metadata, [task.name for task in state.tasks])
                    for state in graph.get_state_history(config())
                ]
            )
        assert histories[0] == histories[1]
        assert len(histories[0]) == 6

    async def test_forks_leave_the_past_as_it_was(self, asaver: MemosSaver) -> None:
        """A run from an earlier checkpoint branches off it; both branches stay readable."""
        graph = counting(4).compile(checkpointer=asaver)
        await graph.ainvoke({"n": 0, "seen": []}, config())
        past = [state async for state in graph.aget_state_history(config())]
        fork = next(state for state in past if state.values.get("n") == 2)
        branch = await graph.aupdate_state(fork.config, {"seen": ["fork"], "n": 3})
        assert (await graph.ainvoke(None, branch))["seen"] == [0, 1, "fork", 3]
        assert (await graph.aget_state(config())).values["seen"] == [0, 1, "fork", 3]
        assert (await graph.aget_state(past[0].config)).values["seen"] == [0, 1, 2, 3]
        again = [state async for state in graph.aget_state_history(config())]
        assert [state.values for state in again[-len(past) :]] == [state.values for state in past]
        assert id_of((await graph.aget_state(branch)).parent_config) == id_of(fork.config)

    def test_replay_from_a_checkpoint(self, saver: MemosSaver) -> None:
        """Going on from the past reads the values of then."""
        graph = counting(4).compile(checkpointer=saver)
        graph.invoke({"n": 0, "seen": []}, config())
        past = next(state for state in graph.get_state_history(config()) if state.values.get("n") == 1)
        assert graph.invoke(None, past.config) == {"n": 4, "seen": [0, 1, 2, 3]}


class TestShapes:
    def test_messages_come_back(self, saver: MemosSaver) -> None:
        """With ids, types and unicode."""

        def chat(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(f"你好 {len(state['messages'])}", id="a1")]}

        graph = StateGraph(MessagesState).add_node(chat).add_edge(START, "chat").compile(checkpointer=saver)
        graph.invoke({"messages": [HumanMessage("hi", id="h1")]}, config())
        assert graph.get_state(config()).values["messages"] == [
            HumanMessage("hi", id="h1"), AIMessage("你好 1", id="a1"),
        ]  # fmt: skip

    async def test_subgraphs_have_namespaces_of_their_own(self, asaver: MemosSaver) -> None:
        """An interrupted subgraph is read, updated and resumed by its own checkpoints."""
        inner = asking().compile()
        builder: StateGraph[Any] = StateGraph(Order)
        builder.add_node("inner", inner)
        builder.add_edge(START, "inner")
        graph = builder.compile(checkpointer=asaver)
        await graph.ainvoke({"log": ["in"]}, config())
        state = await graph.aget_state(config(), subgraphs=True)
        within: Any = state.tasks[0].state
        assert within.values["log"] == ["in", "before"]
        spaces = {
            each.config["configurable"]["checkpoint_ns"] async for each in asaver.alist(config(ns=None))
        }
        assert len(spaces) == 2
        assert any(ns.startswith("inner:") for ns in spaces)
        done = await graph.ainvoke(Command(resume="yes"), config())
        assert done["log"][-3:] == ["before", "asked", "after yes"]

    def test_a_subgraph_may_remember(self, saver: MemosSaver) -> None:
        """One with a checkpointer of its own goes on where it was, over runs of its parent."""
        inner = counting(3).compile(checkpointer=True)

        def outer(state: Any) -> dict[str, Any]:
            return {"seen": inner.invoke({"n": 2, "seen": [state["n"]]})["seen"]}

        graph = (
            StateGraph(counting(1).state_schema)
            .add_node(outer)
            .add_edge(START, "outer")
            .compile(checkpointer=saver)
        )
        assert graph.invoke({"n": 1, "seen": []}, config())["seen"] == [1, 2]
        assert graph.invoke({"n": 5, "seen": []}, config())["seen"] == [1, 2, 1, 2, 5, 2]

    def test_tasks_that_were_sent(self, saver: MemosSaver) -> None:
        """A fan-out that fails in part is resumed in part."""
        ran: list[int] = []

        def split(state: Any) -> list[Send]:
            return [Send("work", {"n": n, "seen": []}) for n in range(4)]

        def work(state: Any) -> dict[str, Any]:
            ran.append(state["n"])
            if state["n"] == 2 and ran.count(2) == 1:
                raise ConnectionError
            return {"seen": [state["n"]]}

        builder: StateGraph[Any] = StateGraph(counting(1).state_schema)
        builder.add_node(work)
        builder.add_conditional_edges(START, split, ["work"])
        graph = builder.compile(checkpointer=saver)
        with pytest.raises(ConnectionError):
            graph.invoke({"n": 0, "seen": []}, config())
        assert graph.invoke(None, config())["seen"] == [0, 1, 2, 3]
        assert ran.count(2) == 2

    async def test_the_functional_api(self, asaver: MemosSaver) -> None:
        """Finished tasks of an entrypoint are not run again after an interrupt; `previous` is kept."""
        ran: list[int] = []

        @task
        async def double(n: int) -> int:
            ran.append(n)
            return 2 * n

        @entrypoint(checkpointer=asaver)
        async def flow(n: int, *, previous: int | None = None) -> Any:
            doubled = await double(n)
            agreed = interrupt("ok?")
            return entrypoint.final(value=[doubled, agreed, previous], save=doubled)

        await flow.ainvoke(3, config())
        assert await flow.ainvoke(Command(resume="yes"), config()) == [6, "yes", None]
        await flow.ainvoke(4, config())
        assert await flow.ainvoke(Command(resume="no"), config()) == [8, "no", 6]
        assert ran == [3, 4]
