"""LangGraph's adapters beside the engine's calls that they stand for, and no-op nodes and stores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.store.base import BaseStore, Op, Result, SearchOp

from benchmarks.adapters.bare import THREAD, Bare
from benchmarks.adapters.ground import Ground
from benchmarks.adapters.legs import MODES, Call, Case, Mode, composed
from memos_adapters.langgraph import MemosStore, capture_node, recall_node

SPACE = ("bench", "notes")
FIELD = "text"
LIMIT = 10


class State(TypedDict, total=False):
    """What most graphs have, and a place for memories."""

    messages: Annotated[list[AnyMessage], add_messages]
    memories: str


class NoStore(BaseStore):
    """Holds nothing."""

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return [_empty(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return [_empty(op) for op in ops]


def cases(ground: Ground) -> Iterator[Case]:
    """All of them, each made when its turn comes."""
    for mode in MODES:
        yield _recall(ground, mode)
        yield _capture(ground, mode)
        yield from _store(ground, mode)


def _recall(ground: Ground, mode: Mode) -> Case:
    ground.cube("reader")
    bare = Bare(ground, "bare reader")

    def running(node: Runnable[Any, Any]) -> Call:
        graph = _graph(node)

        def given(n: int) -> Any:
            return {"messages": [HumanMessage(ground.question(n), id=f"question-{n}")]}

        if mode == "async":
            return lambda n: graph.ainvoke(given(n))
        return lambda n: graph.invoke(given(n))

    ours = recall_node(ground.memos, user_id="reader", strict=True)
    return Case(
        "langgraph recall_node in a graph", mode,
        running(ours), composed(mode, bare.recall), running(_no_node({"memories": ""})),
    )  # fmt: skip


def _capture(ground: Ground, mode: Mode) -> Case:
    user = f"node {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")

    def running(node: Runnable[Any, Any]) -> Call:
        graph = _graph(node)

        def given(n: int) -> Any:
            question, answer = bare.question(n), bare.answer(n)
            return {
                "messages": [
                    HumanMessage(question.text, id=question.id),
                    AIMessage(answer.text, id=answer.id),
                ]
            }

        if mode == "async":
            return lambda n: graph.ainvoke(given(n))
        return lambda n: graph.invoke(given(n))

    ours = capture_node(ground.memos, user_id=user, session_id=THREAD)
    return Case(
        "langgraph capture_node in a graph", mode,
        running(ours), composed(mode, bare.capture_turn), running(_no_node({})),
    )  # fmt: skip


def _store(ground: Ground, mode: Mode) -> Iterator[Case]:
    user = f"store {mode}"
    ground.entries(user, "store", space=SPACE, field=FIELD)
    kv = ground.entries(f"bare {user}", "store", space=SPACE, field=FIELD).kv
    ours, floor = MemosStore(ground.acting(user), fields=[FIELD]), NoStore()

    def getting(store: BaseStore) -> Call:
        if mode == "async":
            return lambda n: store.aget(SPACE, f"{n % ground.items}")
        return lambda n: store.get(SPACE, f"{n % ground.items}")

    def searching(store: BaseStore) -> Call:
        if mode == "async":
            return lambda n: store.asearch(SPACE, query=ground.question(n), limit=LIMIT)
        return lambda n: store.search(SPACE, query=ground.question(n), limit=LIMIT)

    def putting(store: BaseStore) -> Call:
        if mode == "async":
            return lambda n: store.aput(SPACE, f"new-{n}", {FIELD: ground.text(n)})
        return lambda n: store.put(SPACE, f"new-{n}", {FIELD: ground.text(n)})

    def get(n: int) -> None:
        kv.get(
            SPACE, f"{n % ground.items}", refresh_ttl=True
        )  # as BaseStore's `get` does, unless told not to

    def search(n: int) -> None:
        kv.search(SPACE, query=ground.question(n), limit=LIMIT, refresh_ttl=True)

    def put(n: int) -> None:
        kv.put(SPACE, f"new-{n}", {FIELD: ground.text(n)}, index=(FIELD,))

    for name, called, bare in (("get", getting, get), ("search", searching, search), ("put", putting, put)):
        yield Case(f"langgraph MemosStore.{name}", mode, called(ours), composed(mode, bare), called(floor))


def _graph(node: Runnable[Any, Any]) -> Any:
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile()


def _no_node(update: dict[str, str]) -> Runnable[Any, Any]:
    def node(_: State) -> dict[str, str]:
        return update

    async def anode(_: State) -> dict[str, str]:
        return update

    return RunnableLambda(node, afunc=anode, name="node")


def _empty(op: Op) -> Result:
    return [] if isinstance(op, SearchOp) else None
