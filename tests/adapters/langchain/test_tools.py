"""The memory tools: what a model is told, what it can touch, and LangChain's own tests of tools."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt

from memos_adapters.langchain.tools import NOTHING, create_memory_tools
from memos_engine import AccessDenied, BadInput, IdentityMissing, MemOS, Message, Scope, StoreBusy
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.langchain.scripted_model import ScriptedModel, calls, memory_of, run_of
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

NAMES = ["search_memory", "save_memory", "update_memory", "forget_memory"]


def by_name(memos: MemOS, **options: Any) -> dict[str, BaseTool]:
    """The tools by their names, showing all they find."""
    return {tool.name: tool for tool in create_memory_tools(memos, **{"min_score": 0.0, **options})}


def shown_id(answer: str) -> str:
    """The id of the last line of a search, or of what was saved."""
    return answer.rsplit(maxsplit=1)[-1]


def test_a_memory_is_kept_found_corrected_and_forgotten(memos: MemOS) -> None:
    """Ids that a search shows are those that update and forget take."""
    tools = by_name(memos, user_id="alice")
    saved = tools["save_memory"].invoke({"text": "Alice lives in Lisbon."})
    found = tools["search_memory"].invoke({"query": "Where does Alice live?"})
    assert found == (
        "<memories>\nundated\n1 Alice lives in Lisbon.\n</memories>\n"
        f"Ids of these lines: 1 = {shown_id(saved)}"
    )
    tools["update_memory"].invoke({"memory_id": shown_id(found), "text": "Alice lives in Porto."})
    found = tools["search_memory"].invoke({"query": "Where does Alice live?"})
    assert "Porto" in found
    assert "Lisbon" not in found
    answer = tools["forget_memory"].invoke({"memory_id": shown_id(found)})
    assert answer == "Forgotten, with all that was drawn from it. Items erased: 1"
    assert tools["search_memory"].invoke({"query": "Where does Alice live?"}) == NOTHING
    cube = memory_of(memos, "alice")
    assert cube.list() == []


def test_forgetting_reaches_what_was_said(memos: MemOS) -> None:
    """Forgetting a fact erases the turn it was drawn from, so that nothing says it any more."""
    cube = memory_of(memos, "alice")
    captured = cube.capture([Message("user", "My name is Alice and I live in Lisbon.", id="m1")], thread="t1")
    assert captured.derived
    tools = by_name(memos, user_id="alice")
    tools["forget_memory"].invoke({"memory_id": captured.derived[0]})
    assert "Lisbon" not in tools["search_memory"].invoke({"query": "Lisbon"})
    assert cube.list(kinds=["episode", "fact"]) == []


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("update_memory", {"memory_id": "nobody", "text": "x"}, "no item 'nobody'"),
        ("forget_memory", {"memory_id": "nobody"}, "no item 'nobody'"),
        ("save_memory", {"text": "  "}, "blank"),
        ("search_memory", {"query": ""}, "blank"),
    ],
)
async def test_the_model_is_told_what_it_can_put_right(
    memos: MemOS, name: str, arguments: dict[str, str], told: str
) -> None:
    """A wrong id or a blank text is the tool's answer, marked as an error, in sync and async calls."""
    tool = by_name(memos, user_id="alice")[name]
    call = {"name": name, "args": arguments, "id": "c1", "type": "tool_call"}
    for answer in (tool.invoke(call), await tool.ainvoke(call)):
        assert isinstance(answer, ToolMessage)
        assert answer.status == "error"
        assert told in answer.text


def test_another_users_items_are_out_of_reach(memos: MemOS) -> None:
    """An id of another user's memory is as good as none, and nothing of it changes."""
    theirs = memory_of(memos, "bob").add("Bob likes black tea.")
    tools = by_name(memos, user_id="alice")
    assert "no item" in tools["update_memory"].invoke({"memory_id": theirs.id, "text": "Bob likes coffee."})
    assert "no item" in tools["forget_memory"].invoke({"memory_id": theirs.id})
    assert tools["search_memory"].invoke({"query": "black tea"}) == NOTHING
    assert memory_of(memos, "bob").get(theirs.id).text == "Bob likes black tea."


def test_the_model_sees_no_identity(memos: MemOS) -> None:
    """What a model may hand over is a query, a text or an id; a user that it names changes nothing."""
    tools = by_name(memos)
    seen = {name: sorted(tool.args) for name, tool in tools.items()}
    assert seen == {
        "search_memory": ["query"],
        "save_memory": ["text"],
        "update_memory": ["memory_id", "text"],
        "forget_memory": ["memory_id"],
    }
    forged = {"text": "Bob likes coffee.", "user_id": "bob", "runtime": {"context": {"user_id": "bob"}}}
    model = ScriptedModel(answers=[calls(("save_memory", forged)), "Done."])
    create_agent(model, list(tools.values())).invoke({"messages": [HumanMessage("hi")]}, run_of("alice"))
    assert memory_of(memos, "bob").list() == []
    assert [item.text for item in memory_of(memos, "alice").list()] == ["Bob likes coffee."]


async def test_a_call_for_nobody_raises(memos: MemOS) -> None:
    """Without an identity, and for another than it is bound to, a tool refuses: it does not tell the model."""
    save, bound = by_name(memos)["save_memory"], by_name(memos, user_id="alice")["save_memory"]
    with pytest.raises(IdentityMissing):
        save.invoke({"text": "x"})
    with pytest.raises(IdentityMissing):
        await save.ainvoke({"text": "x"})
    with pytest.raises(AccessDenied):
        bound.invoke({"text": "x"}, run_of("bob"))
    model = ScriptedModel(answers=[calls(("save_memory", {"text": "x"})), "Done."])
    with pytest.raises(IdentityMissing):
        create_agent(model, [save]).invoke({"messages": [HumanMessage("hi")]})
    assert memos.cubes() == []


def test_outside_of_a_graph_the_config_names_the_user(memos: MemOS) -> None:
    """A tool that is invoked by itself takes the user of its config, and works without a runtime."""
    save = by_name(memos)["save_memory"]
    save.invoke({"text": "Alice likes tea."}, run_of("alice", "t9"))
    asyncio.run(save.ainvoke({"text": "Bob likes coffee."}, run_of("bob")))
    (note,) = memory_of(memos, "alice").list()
    assert (note.text, note.sources[0].thread) == ("Alice likes tea.", "t9")
    assert [item.text for item in memory_of(memos, "bob").list()] == ["Bob likes coffee."]


def test_a_tool_node_runs_them_at_once(memos: MemOS) -> None:
    """Called together in a hand-built graph, from threads, all four act for the run's user."""
    item = memory_of(memos, "alice").add("Alice lives in Lisbon.")
    other = memory_of(memos, "alice").add("Alice drives a tram.")
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(list(by_name(memos).values())))
    graph.set_entry_point("tools")
    asked = calls(
        ("search_memory", {"query": "Alice"}),
        ("save_memory", {"text": "Alice likes tea."}),
        ("update_memory", {"memory_id": item.id, "text": "Alice lives in Porto."}),
        ("forget_memory", {"memory_id": other.id}),
    )
    result = graph.compile().invoke({"messages": [asked]}, run_of("alice"))
    answers = result["messages"][1:]
    assert [message.name for message in answers] == NAMES
    assert all(message.status == "success" for message in answers)
    json.dumps([message.content for message in answers])
    assert sorted(found.text for found in memory_of(memos, "alice").list()) == [
        "Alice likes tea.",
        "Alice lives in Porto.",
    ]


def test_a_call_that_runs_again_saves_once(memos: MemOS) -> None:
    """A node that another of its tools interrupted is run again as a whole: its memory is there once."""

    @tool
    def ask(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([by_name(memos)["save_memory"], ask]))
    graph.set_entry_point("tools")
    app = graph.compile(checkpointer=InMemorySaver())
    saving = ("save_memory", {"text": "Alice likes jam."})
    app.invoke({"messages": [calls(saving, ("ask", {"question": "Sure?"}))]}, run_of("alice", "t1"))
    result = app.invoke(Command(resume="yes"), run_of("alice", "t1"))
    (item,) = memory_of(memos, "alice").list()
    assert shown_id(str(result["messages"][1].content)) == item.id


async def test_the_event_loop_is_not_blocked(tmp_path: Path) -> None:
    """Async calls of every tool leave the loop alone, the first that makes the cube too."""
    with MemOS.open(tmp_path, embedder=SlowEmbedder(), background=False) as memos:
        tools = by_name(memos, user_id="alice")
        with nothing_blocks():
            saved = await tools["save_memory"].ainvoke({"text": "Alice likes tea."})
            assert "tea" in await tools["search_memory"].ainvoke({"query": "tea?"})
            await tools["update_memory"].ainvoke({"memory_id": shown_id(saved), "text": "Alice likes mint."})
            await tools["forget_memory"].ainvoke({"memory_id": shown_id(saved)})


class BusyEmbedder(HashEmbedder):
    """Meets a store that is busy."""

    def embed(self, texts: Any) -> Any:
        """Fail."""
        raise StoreBusy("locked")


def test_what_no_model_can_put_right_raises(tmp_path: Path) -> None:
    """A store that fails is the application's matter."""
    with MemOS.open(tmp_path, embedder=BusyEmbedder(), background=False) as memos, pytest.raises(StoreBusy):
        by_name(memos, user_id="alice")["save_memory"].invoke({"text": "x"})


def test_names_are_chosen_and_prefixed(memos: MemOS) -> None:
    """Some of the tools, in any order, under names of their own; ids are shown only where they can be used."""
    tools = create_memory_tools(
        memos.acting_as(Scope(user="team")),
        names=["save_memory", "search_memory"],
        prefix="team_",
        min_score=0.0,
    )
    assert [tool.name for tool in tools] == ["team_save_memory", "team_search_memory"]
    tools[0].invoke({"text": "We drink tea."})
    assert tools[1].invoke({"query": "tea?"}) == "<memories>\nundated\n1 We drink tea.\n</memories>"
    with pytest.raises(BadInput, match="drop_memory"):
        create_memory_tools(memos, names=["drop_memory"])  # type: ignore[list-item] # -- the mistake itself


class OfEachTool:
    """What LangChain's tests ask about, for each tool in turn."""

    name: str
    memos: MemOS

    @pytest.fixture(autouse=True, params=NAMES)
    def _opened(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.name = request.param
        with (
            tempfile.TemporaryDirectory() as folder,
            MemOS.open(folder, embedder=HashEmbedder(), background=False) as self.memos,
        ):
            yield

    @property
    def tool_constructor(self) -> BaseTool:
        """The tool itself."""
        return by_name(self.memos, user_id="alice")[self.name]

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Arguments that fit, with the id of an item that is there."""
        item = memory_of(self.memos, "alice").add("Alice likes tea.")
        fitting = {"query": "tea?", "text": "Alice likes mint.", "memory_id": item.id}
        return {name: fitting[name] for name in self.tool_constructor.args}


class TestStandardUnit(OfEachTool, ToolsUnitTests):
    pass


class TestStandardIntegration(OfEachTool, ToolsIntegrationTests):
    pass
