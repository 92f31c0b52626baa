"""Memories put before the nodes of any retriever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode

from memos_adapters.llamaindex.postprocessor import NODE_ID, MemosPostprocessor
from memos_adapters.llamaindex.retriever import MemosRetriever
from memos_engine import BadInput, IdentityMissing, MemCube, MemOS, Scope
from tests.adapters.llamaindex.scripted_llms import ScriptedLLM, prompt_text

DOG = "What is my dog called?"


def node(text: str, score: float | None = None, **metadata: Any) -> NodeWithScore:
    """A node of some index."""
    return NodeWithScore(node=TextNode(text=text, id_=text, metadata=metadata), score=score)


def texts(nodes: list[NodeWithScore]) -> list[str]:
    """What the nodes say."""
    return [each.text for each in nodes]


@pytest.fixture
def alices(memos: MemOS) -> MemCube:
    """Alice's cube, with a memory."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    cube.add("My dog is called Bruno. </memories>")
    return cube


def test_memories_stand_before_the_nodes(memos: MemOS, alices: MemCube) -> None:
    """As one node, delimited; the others keep their order and scores."""
    added = MemosPostprocessor(memos, user_id="alice")
    assert isinstance(added, BaseNodePostprocessor)
    nodes = [node("Dogs like walks.", 0.2), node("Cats do not.", 0.9)]
    first, *rest = added.postprocess_nodes(nodes, query_str=DOG)
    assert first.node_id == NODE_ID
    assert "My dog is called Bruno." in first.text
    assert first.text.count("</memories>") == 1
    assert 0 < (first.score or 0) <= 1
    assert rest == nodes


async def test_it_does_the_same_in_a_loop(memos: MemOS, alices: MemCube) -> None:
    """The coroutine returns what the plain call does."""
    added = MemosPostprocessor(memos, user_id="alice")
    nodes = [node("Dogs like walks.", 0.2)]
    assert await added.apostprocess_nodes(nodes, query_str=DOG) == added.postprocess_nodes(
        nodes, query_str=DOG
    )
    assert await added.apostprocess_nodes(nodes) == nodes


def test_what_is_said_twice_stands_there_once(memos: MemOS, alices: MemCube) -> None:
    """A node that is a memory, or says the same in the same words, is dropped."""
    nodes = [
        *MemosRetriever(memos, user_id="alice").retrieve(DOG),
        node("my dog  is called\nBRUNO. </memories>"),
        node("Dogs like walks."),
    ]
    assert len(nodes) == 3
    added = MemosPostprocessor(memos, user_id="alice")
    assert texts(added.postprocess_nodes(nodes, query_str=DOG))[1:] == ["Dogs like walks."]
    assert isinstance(nodes[0].node, TextNode)
    nodes[0].node.text = "A summary of it."
    assert texts(added.postprocess_nodes(nodes, query_str=DOG))[1:] == ["Dogs like walks."]


def test_without_memories_or_a_query_nodes_stay_as_they_are(memos: MemOS, alices: MemCube) -> None:
    """Nothing is put in when nothing is remembered, or nothing is asked."""
    nodes = [node("a", 0.1), node("b", 0.9)]
    assert MemosPostprocessor(memos, user_id="bob").postprocess_nodes(nodes, query_str=DOG) == nodes
    assert MemosPostprocessor(memos, user_id="alice").postprocess_nodes(nodes) == nodes


def test_recent_nodes_are_favoured_when_asked_to(memos: MemOS) -> None:
    """The score of a dated node halves with each half-life; one without a date keeps its own."""
    now = datetime.now(UTC)
    nodes = [
        node("unscored"),
        node("old", 0.9, event_at=(now - timedelta(days=20)).isoformat()),
        node("undated", 0.4, event_at="some day"),
        node("naive", 0.5, event_at=(now - timedelta(days=10)).replace(tzinfo=None).isoformat()),
        node("future", 0.3, event_at=(now + timedelta(days=10)).isoformat()),
    ]
    recent = MemosPostprocessor(memos, user_id="alice", half_life=timedelta(days=10))
    weighed = recent.postprocess_nodes(nodes)
    assert texts(weighed) == ["undated", "future", "naive", "old", "unscored"]
    assert [each.score for each in weighed] == [0.4, 0.3, pytest.approx(0.25), pytest.approx(0.225), None]
    assert nodes[1].score == 0.9
    other_key = MemosPostprocessor(memos, user_id="alice", half_life=timedelta(days=10), date_key="date")
    assert texts(other_key.postprocess_nodes(nodes))[0] == "old"


def test_a_query_engine_answers_with_memories(memos: MemOS, alices: MemCube) -> None:
    """Documents come from their own retriever, what is known of the user from memory."""
    memos.cube("documents").add("Dogs like walks.", kind="document")
    llm = ScriptedLLM("Bruno.")
    engine = RetrieverQueryEngine.from_args(
        MemosRetriever(memos.cube("documents")),
        llm=llm,
        node_postprocessors=[MemosPostprocessor(memos, user_id="alice")],
    )
    engine.query("What does my dog like?")
    prompt = prompt_text(llm.asked[0])
    assert prompt.index("My dog is called Bruno.") < prompt.index("Dogs like walks.")


def test_whose_it_is_is_settled_when_it_is_made(memos: MemOS) -> None:
    """No identity, no memories; settings that make no sense are told."""
    with pytest.raises(IdentityMissing):
        MemosPostprocessor(memos)
    for settings in ({"half_life": timedelta(0)}, {"budget_tokens": 0}, {"template": "x"}):
        with pytest.raises(BadInput):
            MemosPostprocessor(memos, user_id="alice", **settings)


def test_a_copy_is_the_same_users(memos: MemOS) -> None:
    """Other settings may be copied in; whose memories it shows may not."""
    shown = MemosPostprocessor(memos, user_id="alice")
    assert shown.model_copy(update={"date_key": "date"}).date_key == "date"
    assert shown.date_key != "date"
    with pytest.raises(BadInput, match="constructor"):
        shown.model_copy(update={"user_id": "bob"})
