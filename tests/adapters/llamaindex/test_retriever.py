"""Memories as nodes, alone and in a query engine."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from memos_adapters.llamaindex.retriever import MemosRetriever
from memos_engine import BadInput, BadLimit, IdentityMissing, MemCube, MemOS, Message, Scope
from tests.adapters.llamaindex.scripted_llms import ScriptedLLM, prompt_text

DOG = "What is my dog called?"


@pytest.fixture
def alices(memos: MemOS) -> MemCube:
    """Alice's cube, with three memories."""
    cube = memos.acting_as(Scope("alice")).cube("memories")
    at = datetime(2025, 5, 1, tzinfo=UTC)
    cube.capture([Message("user", "My dog is called Bruno.", "m1", at=at)], thread="s")
    cube.add("My cat is called Minka.", tags=["cat"])
    cube.add("I live in Lisbon.")
    return cube


def test_memories_come_as_nodes(memos: MemOS, alices: MemCube) -> None:
    """Best first, under the memories' ids, with scores; what is known about them is in no prompt."""
    retriever = MemosRetriever(memos, user_id="alice", kinds=["episode", "note"])
    assert isinstance(retriever, BaseRetriever)
    nodes = retriever.retrieve(DOG)
    best = nodes[0]
    assert isinstance(best.node, TextNode)
    assert best.node.text == "My dog is called Bruno."
    assert alices.get(best.node_id).text == best.node.text
    assert [node.score for node in nodes] == sorted((node.score or 0.0 for node in nodes), reverse=True)
    assert best.node.metadata == {
        "kind": "episode",
        "speaker": "user",
        "thread": "s",
        "event_at": "2025-05-01T00:00:00+00:00",
        "message_ids": ["m1"],
    }
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert best.node.get_content(mode) == best.node.text


async def test_it_finds_the_same_in_a_loop(memos: MemOS, alices: MemCube) -> None:
    """The coroutine returns what the plain call does."""
    retriever = MemosRetriever(memos, user_id="alice")
    assert await retriever.aretrieve(QueryBundle(DOG)) == retriever.retrieve(DOG)


def test_how_much_and_what_is_found_can_be_chosen(memos: MemOS, alices: MemCube) -> None:
    """By number, score, kind, thread and time; a blank query finds nothing."""

    def found(**wanted: object) -> set[str]:
        retriever = MemosRetriever(memos, user_id="alice", **wanted)  # type: ignore[arg-type] # -- a table
        return {node.text for node in retriever.retrieve("What is called how?")}

    assert len(found(similarity_top_k=1)) == 1
    assert found(min_score=1.0) == set()
    assert found() > found(kinds=["note"]) >= {"My cat is called Minka."}
    assert "My dog is called Bruno." in found(thread="s")
    assert "My cat is called Minka." not in found(thread="s")
    assert found(since=datetime(2025, 5, 2, tzinfo=UTC), thread="s") == set()
    assert MemosRetriever(memos, user_id="alice").retrieve(" ") == []


def test_a_query_engine_answers_with_memories(memos: MemOS, alices: MemCube) -> None:
    """The texts stand in the prompt, their metadata does not, and the sources name the memories."""
    llm = ScriptedLLM("Bruno.")
    engine = RetrieverQueryEngine.from_args(MemosRetriever(memos, user_id="alice"), llm=llm)
    response = engine.query(DOG)
    assert str(response) == "Bruno."
    prompt = prompt_text(llm.asked[0])
    assert "My dog is called Bruno." in prompt
    assert "message_ids" not in prompt
    assert "2025-05-01" not in prompt
    assert all(isinstance(node, NodeWithScore) and alices.get(node.node_id) for node in response.source_nodes)


def test_whose_it_is_is_settled_when_it_is_made(memos: MemOS, alices: MemCube) -> None:
    """Nobody's retriever cannot be made, another user's finds nothing, a cube is its own."""
    with pytest.raises(IdentityMissing):
        MemosRetriever(memos)
    with pytest.raises(BadInput):
        MemosRetriever(alices, user_id="alice")
    with pytest.raises(BadLimit):
        MemosRetriever(memos, user_id="alice", similarity_top_k=0)
    assert MemosRetriever(memos, user_id="bob").retrieve(DOG) == []
    assert MemosRetriever(alices).retrieve(DOG) == MemosRetriever(memos, user_id="alice").retrieve(DOG)


def test_a_deep_copy_finds_the_same(memos: MemOS, alices: MemCube) -> None:
    """A retriever can be copied with what holds it: the copy shares the memories."""
    for retriever in (MemosRetriever(memos, user_id="alice"), MemosRetriever(alices)):
        found = copy.deepcopy(retriever).retrieve(DOG)
        assert [node.node_id for node in found] == [node.node_id for node in retriever.retrieve(DOG)]
        assert found
