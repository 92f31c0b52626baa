"""MemosStore from event loops, threads and graphs: nothing blocks, nothing is bound to a loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.config import get_store
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, GetOp, InvalidNamespaceError, Item, PutOp, SearchOp

from memos_adapters.langgraph.store import MemosStore
from memos_engine import MemOS
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

NS = ("memories", "ann@example.org")


@pytest.fixture
def store(memos: MemOS) -> Iterator[MemosStore]:
    """A store; it leaves the cube whole."""
    yield MemosStore(memos)
    assert memos.check().ok


# Loops and threads


async def test_async_calls_are_the_sync_ones(store: MemosStore) -> None:
    """Every method has an async twin that does the same to the same items."""
    await store.aput(NS, "k", {"text": "quokka"}, index=["text"], ttl=10)
    await store.aput(NS, "l", {"text": "kettle"}, False)
    assert await store.aget(NS, "k") == store.get(NS, "k")
    assert await store.aget(NS, "k", refresh_ttl=False) is not None
    options: dict[str, Any] = {
        "query": "quokka",
        "filter": {"text": {"$exists": True}},
        "limit": 5,
        "offset": 1,
    }
    assert await store.asearch(NS, **options) == store.search(NS, **options)
    assert [item.key for item in await store.asearch(NS, query="quokka")] == ["k", "l"]
    listing: dict[str, Any] = {"prefix": ("*",), "suffix": NS[1:], "max_depth": 1, "limit": 5, "offset": 0}
    assert await store.alist_namespaces(**listing) == store.list_namespaces(**listing) == [("memories",)]
    assert await store.abatch([GetOp(NS, "l")]) == store.batch([GetOp(NS, "l")])
    await store.adelete(NS, "k")
    assert await store.aget(NS, "k") is None
    with pytest.raises(InvalidNamespaceError):
        await store.aput((), "k", {})
    with pytest.raises(InvalidNamespaceError):
        await store.aget(("",), "k")


async def test_sync_calls_work_within_a_loop(store: MemosStore) -> None:
    """A sync call within a running loop does its work, and async calls of the same task see it."""
    for n in range(5):
        store.put(NS, f"k{n}", {"text": f"quokka {n}"})
        assert await store.aget(NS, f"k{n}") is not None
        assert store.search(NS, query="quokka")


async def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    """While a batch embeds, reads and writes, the loop runs on: nothing that may block is done on it."""
    with MemOS.open(tmp_path / "root", embedder=SlowEmbedder(), background=False) as memos:
        store = MemosStore(memos)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        with nothing_blocks():
            ticking = asyncio.create_task(tick())
            await store.asetup()
            await store.aput(NS, "k", {"text": "quokka"})
            assert await store.asearch(NS, query="quokka")
            await store.abatch([GetOp(NS, "k"), SearchOp(NS), PutOp(NS, "k", None)])
            await store.asweep_ttl()
            ticking.cancel()
        assert ticks >= 10  # of about 60 in the 0.6 s of two embeddings


async def test_many_at_once(store: MemosStore) -> None:
    """Hundreds of calls at once, on the loop and in threads, each see what they wrote."""

    async def one(n: int) -> bool:
        await store.aput((*NS, str(n % 3)), f"k{n}", {"n": n})
        item = await store.aget((*NS, str(n % 3)), f"k{n}")
        return item is not None and item.value == {"n": n}

    def other(n: int) -> bool:
        store.put((*NS, "threads"), f"k{n}", {"n": n})
        return [item.value for item in store.search(NS, filter={"n": n}, limit=1)] == [{"n": n}]

    with ThreadPoolExecutor(8) as threads:
        loop = asyncio.get_running_loop()
        hopped = [loop.run_in_executor(threads, other, n) for n in range(1_000, 1_060)]
        assert all(await asyncio.wait_for(asyncio.gather(*(one(n) for n in range(200)), *hopped), 120))
    assert len(store.search((), limit=1_000)) == 260


def test_a_store_outlives_its_loop(store: MemosStore) -> None:
    """A store that served one loop serves the next."""
    asyncio.run(store.aput(NS, "k", {"n": 1}))
    item = asyncio.run(store.aget(NS, "k"))
    assert item is not None
    assert item.value == {"n": 1}


async def test_cancelling_leaves_the_store_whole(store: MemosStore) -> None:
    """A batch whose task is cancelled is done as a whole or not at all."""
    for n in range(10):
        task = asyncio.create_task(store.abatch([PutOp((str(n),), f"k{m}", {"n": m}) for m in range(20)]))
        await asyncio.sleep(0.002 * n)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.aput(("last",), "k", {})
    counts = [len(store.search((str(n),), limit=100)) for n in range(10)]
    assert set(counts) <= {0, 20}


def test_what_is_imported() -> None:
    """The store loads LangGraph and what that is built on; no other framework, and no part that is heavy."""
    code = "import sys; from memos_adapters.langgraph import MemosStore; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "langgraph" in loaded
    assert not loaded & {"langchain", "langchain_classic", "llama_index", "torch", "transformers", "chromadb"}


# Graphs


@dataclass
class Who:
    """A run's context."""

    user_id: str


def remembering(store: MemosStore) -> Any:
    """A graph whose node keeps the last message, and tells what it found for it."""

    async def node(state: MessagesState, runtime: Runtime[Who]) -> dict[str, Any]:
        assert runtime.store is not None
        namespace = ("memories", runtime.context.user_id)
        said = state["messages"][-1].text
        found = await runtime.store.asearch(namespace, query=str(said), limit=1)
        await runtime.store.aput(namespace, str(uuid4()), {"content": str(said)})
        assert get_store() is runtime.store
        return {"messages": [AIMessage(found[0].value["content"] if found else "nothing")]}

    builder = StateGraph(MessagesState, context_schema=Who)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile(store=store)


async def test_a_graph_remembers_by_user(store: MemosStore) -> None:
    """A graph's nodes find what earlier runs of the same user kept, under a mail address; nobody else's."""
    graph = remembering(store)

    async def said(user: str, text: str) -> str:
        state = await graph.ainvoke({"messages": [("user", text)]}, context=Who(user))
        return str(state["messages"][-1].text)

    assert await said("ann@example.org", "I like quokkas") == "nothing"
    assert await said("bob@example.org", "do I like quokkas?") == "nothing"
    assert await said("ann@example.org", "what do I like?") == "I like quokkas"


def memory_tools() -> list[BaseTool]:
    """Tools as memory packages for LangGraph make them: over whatever store the graph was given."""

    @tool
    async def manage_memory(content: str, runtime: ToolRuntime) -> str:
        """Keep a memory."""
        assert runtime.store is not None
        key = str(uuid4())
        await runtime.store.aput(("memories", "ann.lee"), key, {"content": content})
        return f"created memory {key}"

    @tool
    def search_memory(query: str, runtime: ToolRuntime) -> str:
        """Find memories."""
        assert runtime.store is not None
        found = runtime.store.search(("memories", "ann.lee"), query=query, filter=None, limit=10, offset=0)
        return json.dumps([item.dict() for item in found])

    return [manage_memory, search_memory]


async def test_tools_over_a_store(store: MemosStore) -> None:
    """Tools that keep and search memories work over the store of the graph, many in one turn."""
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(memory_tools()))
    builder.add_edge(START, "tools")
    graph = builder.compile(store=store)

    def call(name: str, number: int, **arguments: str) -> dict[str, Any]:
        return {"name": name, "args": arguments, "id": f"{name}{number}"}

    kept = [call("manage_memory", n, content=f"quokka number {n}") for n in range(6)]
    await graph.ainvoke({"messages": [AIMessage("", tool_calls=kept)]})
    asked = AIMessage("", tool_calls=[call("search_memory", 0, query="quokka number 4")])
    state = await graph.ainvoke({"messages": [asked]})
    answer = state["messages"][-1]
    assert isinstance(answer, ToolMessage)
    found = json.loads(str(answer.content))
    assert len(found) == 6
    assert found[0]["value"] == {"content": "quokka number 4"}


def test_a_sync_graph_and_its_subgraph(store: MemosStore) -> None:
    """A sync run reaches the store, and so does the graph within it."""

    def inner(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
        store.put(NS, "inner", {"n": 1})
        return {}

    sub = StateGraph(MessagesState)
    sub.add_node("inner", inner)
    sub.add_edge(START, "inner")

    def outer(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
        assert isinstance(store.get(NS, "inner"), Item)
        store.put(NS, "outer", {"n": 2})
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("sub", sub.compile())
    builder.add_node("outer", outer)
    builder.add_edge(START, "sub")
    builder.add_edge("sub", "outer")
    builder.compile(store=store).invoke({"messages": []})
    assert sorted(item.key for item in store.search(NS)) == ["inner", "outer"]
