"""A vector store over a cube: documents by their callers' ids, found by likeness, diversity and filters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from memos_adapters.langchain import MemosVectorStore
from memos_adapters.langchain.embeddings import MemosEmbeddings
from memos_engine import (
    AccessDenied,
    BadInput,
    BadLimit,
    Closed,
    EmbedderMismatch,
    FunctionEmbedder,
    IdentityMissing,
    MemCube,
    MemOS,
    Scope,
)
from memos_engine.testing.fakes import FrozenClock
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

ALICE: RunnableConfig = {"configurable": {"user_id": "alice"}}
BOB: RunnableConfig = {"configurable": {"user_id": "bob"}}
TEAS = [
    Document("green tea from Japan", id="green", metadata={"year": 2020, "where": {"land": "Japan"}}),
    Document("black tea from India", id="black", metadata={"year": 2021, "tags": ["strong"]}),
    Document("black tea from Ceylon", id="ceylon", metadata={"year": 2022, "a.b": 1}),
    Document("mint leaves from Morocco", id="mint", metadata={}),
]


class TestStandard(VectorStoreIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Any:
        """An empty store with LangChain's fake embedder."""
        embedder = FunctionEmbedder(self.get_embeddings().embed_documents, fingerprint="fake")
        with MemOS.open(tmp_path / "standard", embedder=embedder, background=False) as memos:
            yield MemosVectorStore(memos, user_id="alice")


@pytest.fixture
def store(memos: MemOS) -> MemosVectorStore:
    """Alice's documents on tea."""
    store = MemosVectorStore(memos, user_id="alice")
    store.add_documents(TEAS)
    return store


def ids(documents: list[Document]) -> list[str]:
    """Ids of documents."""
    return [str(document.id) for document in documents]


# Ids and metadata


def test_documents_are_kept_whole(memos: MemOS, store: MemosVectorStore) -> None:
    """Text, metadata and the caller's id come back, from another object too; an empty text is a text."""
    other = MemosVectorStore(memos, user_id="alice")
    assert other.get_by_ids(["mint", "green", "none", "mint"]) == [TEAS[3], TEAS[0]]
    names = other.add_texts(["", "x"], [{}, {"n": None}], ids=["https://example.org/a?b=c#d", "日本 "])
    assert other.get_by_ids(names) == [
        Document("", id="https://example.org/a?b=c#d"),
        Document("x", id="日本 ", metadata={"n": None}),
    ]
    assert names[0] in ids(other.similarity_search("tea", k=10))


def test_ids_of_call_and_documents(store: MemosVectorStore) -> None:
    """Ids of the call go before the documents'; who has none gets one; each document needs its place."""
    documents = [Document("a", id="1"), Document("b")]
    assert store.add_documents(documents, ids=["x", "y"]) == ["x", "y"]
    first, made = store.add_documents(documents)
    assert first == "1"
    assert store.get_by_ids([made])[0].page_content == "b"
    assert documents == [Document("a", id="1"), Document("b")]
    with pytest.raises(BadInput, match="2 documents came with 1 ids"):
        store.add_documents(documents, ids=["x"])
    with pytest.raises(BadInput, match="2 documents came with 1 ids"):
        store.add_texts(["a", "b"], ids=["x"])
    with pytest.raises(BadInput, match="2 texts came with 1 metadatas"):
        store.add_texts(["a", "b"], [{}])


async def test_texts_are_added_awaited(store: MemosVectorStore) -> None:
    """Texts come from any iterable, with or without metadata and ids."""
    assert await store.aadd_texts(iter(["a", "b"]), ids=["1", "2"]) == ["1", "2"]
    (made,) = await store.aadd_texts(["c"], [{"n": 1}])
    assert store.get_by_ids(["1", made]) == [Document("a", id="1"), Document("c", id=made, metadata={"n": 1})]


def test_many_at_once(store: MemosVectorStore) -> None:
    """Thousands of documents are added, found by id and deleted in one call each."""
    names = [str(n) for n in range(2_000)]
    store.add_texts(["text"] * 2_000, ids=names)
    assert len(store.get_by_ids(names)) == 2_000
    assert len(store.similarity_search("text", k=2_500)) == 2_004
    store.delete()
    assert store.similarity_search("text") == []


def test_what_is_no_json_is_refused(store: MemosVectorStore) -> None:
    """Metadata that JSON cannot hold is refused with its whole call."""
    with pytest.raises(BadInput, match="JSON"):
        store.add_documents([Document("a", id="1"), Document("b", id="2", metadata={"path": Path()})])
    assert store.get_by_ids(["1", "2"]) == []


def test_delete_by_id_and_all(memos: MemOS, store: MemosVectorStore) -> None:
    """Missing ids are passed over; without ids the whole collection goes, and no other one."""
    other = MemosVectorStore(memos, user_id="alice", collection="other")
    other.add_texts(["stays"], ids=["green"])
    kv = memos.acting_as(Scope("alice")).cube("documents").kv
    kv.put(("documents", "below"), "green", {"not": "ours"})
    assert store.delete(["black", "none"]) is True
    assert sorted(ids(store.similarity_search("tea", k=10))) == ["ceylon", "green", "mint"]
    assert store.delete([]) is True
    assert store.delete() is True
    assert store.similarity_search("tea", k=10) == []
    assert ids(other.similarity_search("tea", k=10)) == ["green"]
    assert kv.get(("documents", "below"), "green")


# Search


def test_scores_fall_from_one_to_zero(store: MemosVectorStore) -> None:
    """Every document has a score of 0..1, best first, and none is left out for a low one."""
    found = store.similarity_search_with_score("black tea from India", k=10)
    scores = [score for _, score in found]
    assert ids([document for document, _ in found])[0] == "black"
    assert len(found) == 4
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > 0.9
    assert store.similarity_search_with_relevance_scores("black tea from India", k=10) == found
    over = store.similarity_search_with_relevance_scores(
        "black tea from India", k=10, score_threshold=scores[0]
    )
    assert over == found[:1]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"year": 2020}, {"green"}),
        ({"year": {"$gte": 2021}}, {"black", "ceylon"}),
        ({"where.land": "Japan"}, {"green"}),
        ({"where": {"land": "Japan"}}, {"green"}),
        ({"a.b": 1}, {"ceylon"}),
        ({"tags": {"$contains": "strong"}}, {"black"}),
        ({"year": {"$exists": False}}, {"mint"}),
        ({"$or": [{"year": 2020}, {"year": 2022}]}, {"green", "ceylon"}),
        ({"$and": [{"$or": [{"year": 2022}, {"tags": ["strong"]}]}], "year": {"$lt": 2022}}, {"black"}),
        ({}, {"green", "black", "ceylon", "mint"}),
        (None, {"green", "black", "ceylon", "mint"}),
    ],
)  # fmt: skip
async def test_filters_read_metadata(store: MemosVectorStore, condition: Any, expected: set[str]) -> None:
    """A filter holds for every kind of search, sync and awaited."""
    assert set(ids(store.similarity_search("tea", k=10, filter=condition))) == expected
    assert set(ids(await store.asimilarity_search("tea", k=10, filter=condition))) == expected
    assert set(ids(store.max_marginal_relevance_search("tea", k=10, filter=condition))) == expected
    retriever = store.as_retriever(search_kwargs={"filter": condition, "k": 10})
    assert set(ids(retriever.invoke("tea"))) == expected


@pytest.mark.parametrize("condition", [{"$gt": 3}, {"year": {"$near": 3}}, {"$or": {}}, [1], "year", len])
def test_a_senseless_filter_is_refused(store: MemosVectorStore, condition: Any) -> None:
    """What is no condition is an error, never an empty result."""
    with pytest.raises(BadInput):
        store.similarity_search("tea", filter=condition)


def test_senseless_calls_are_refused(store: MemosVectorStore) -> None:
    """A word that no search knows is named; `k` is a number of documents; a blank query finds none."""
    with pytest.raises(BadInput, match="'filters'"):
        store.similarity_search("tea", filters={"year": 2020})
    with pytest.raises(BadLimit):
        store.similarity_search("tea", k=-1)
    assert store.similarity_search(" ") == []
    assert store.similarity_search("tea", k=0) == []
    with pytest.raises(NotImplementedError):
        store.similarity_search_by_vector([1.0])


def test_diversity(store: MemosVectorStore) -> None:
    """With a low `lambda_mult` the second document is one unlike the first; with 1 it is the next nearest."""
    query = "black tea from India and Ceylon"
    near = store.max_marginal_relevance_search(query, k=2, lambda_mult=1.0)
    assert set(ids(near)) == {"black", "ceylon"}
    far = store.max_marginal_relevance_search(query, k=2, lambda_mult=0.0)
    assert len({"black", "ceylon"}.intersection(ids(far))) == 1
    assert len(store.max_marginal_relevance_search(query, k=4, fetch_k=1)) == 4
    assert store.max_marginal_relevance_search(query, filter={"year": 1}) == []


def test_diversity_over_a_cube_needs_its_embedder(memos: MemOS, cube: MemCube) -> None:
    """A cube does not tell its embedder: handed over, it serves."""
    blind = MemosVectorStore(cube)
    blind.add_documents(TEAS)
    assert blind.embeddings is None
    with pytest.raises(BadInput, match="embedding="):
        blind.max_marginal_relevance_search("tea")
    told = MemosVectorStore(cube, embedding=MemosEmbeddings(memos.embedder))
    assert len(told.max_marginal_relevance_search("tea", k=2)) == 2


@pytest.mark.parametrize(
    ("search_type", "search_kwargs"),
    [
        ("similarity", {"k": 2}),
        ("mmr", {"k": 2, "fetch_k": 4, "lambda_mult": 0.5}),
        ("similarity_score_threshold", {"k": 2, "score_threshold": 0.1}),
    ],
)
async def test_every_kind_of_retriever(
    store: MemosVectorStore, search_type: str, search_kwargs: dict[str, Any]
) -> None:
    """LangChain's three kinds of retrievers find the same, sync and awaited."""
    retriever = store.as_retriever(search_type=search_type, search_kwargs=search_kwargs)
    found = retriever.invoke("black tea")
    assert found[0].id in {"black", "ceylon"}
    assert len(found) == 2
    assert await retriever.ainvoke("black tea") == found
    assert {"MemosVectorStore", "MemosEmbeddings"} <= set(retriever.tags or ())


def test_langchains_index_keeps_it_in_step(memos: MemOS) -> None:
    """`index` adds what is new, passes over what is there, and deletes what is gone."""
    store = MemosVectorStore(memos, user_id="alice")
    records = InMemoryRecordManager("tests")
    records.create_schema()
    documents = [Document(text, metadata={"source": text}) for text in ("a", "b", "c")]

    def run(wanted: list[Document]) -> dict[str, int]:
        told = index(wanted, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        return {name: count for name, count in told.items() if isinstance(count, int) and count}

    assert run(documents) == {"num_added": 3}
    assert run(documents) == {"num_skipped": 3}
    assert run(documents[1:]) == {"num_skipped": 2, "num_deleted": 1}
    assert sorted(found.page_content for found in store.similarity_search("a", k=9)) == ["b", "c"]


# Whose documents


async def test_a_call_names_its_user(memos: MemOS) -> None:
    """One store serves every user, each their own documents, by keyword, chain or retriever's config."""
    store = MemosVectorStore(memos)
    store.add_texts(["tea"], [{"of": "alice"}], ids=["1"], user_id="alice")
    await store.aadd_documents([Document("tea", id="1", metadata={"of": "bob"})], user_id="bob")

    def whose(found: list[Document]) -> list[str]:
        return [document.metadata["of"] for document in found]

    assert whose(store.similarity_search("tea", user_id="alice")) == ["alice"]
    assert whose(store.get_by_ids(["1"], user_id="bob")) == ["bob"]
    assert whose(RunnableLambda(store.similarity_search).invoke("tea", BOB)) == ["bob"]
    retriever = store.as_retriever()
    assert whose(retriever.invoke("tea", ALICE)) == ["alice"]
    found = await asyncio.gather(*(retriever.ainvoke("tea", config) for config in (ALICE, BOB)))
    assert [whose(each) for each in found] == [["alice"], ["bob"]]
    assert whose(store.as_retriever(search_kwargs={"user_id": "bob"}).invoke("tea")) == ["bob"]
    store.delete(["1"], user_id="bob")
    assert whose(await store.aget_by_ids(["1"], user_id="alice")) == ["alice"]
    for call in (lambda: store.similarity_search("tea"), lambda: retriever.invoke("tea"), store.delete):
        with pytest.raises(IdentityMissing):
            call()
    with pytest.raises(AccessDenied):
        MemosVectorStore(memos, user_id="alice").similarity_search("tea", user_id="bob")


def test_documents_are_no_memories(memos: MemOS, store: MemosVectorStore) -> None:
    """Documents have a cube of their own: what a user said is not found among them, nor they in recall."""
    memory = memos.acting_as(Scope("alice")).cube("memories")
    memory.add("black tea is Alice's")
    assert "black tea is Alice's" not in [
        each.page_content for each in store.similarity_search("black tea", k=9)
    ]
    assert [hit.item.text for hit in memory.search("black tea")] == ["black tea is Alice's"]


# From texts


class Embedding(DeterministicFakeEmbedding):
    """A fake with a name."""

    model: str = "fake-1"


def test_from_texts_opens_a_folder(tmp_path: Path) -> None:
    """Texts go into a folder that can be opened again with the same embedder, and with no other."""
    embedding = Embedding(size=8)
    store = MemosVectorStore.from_texts(
        ["a", "b"], embedding, [{"n": 1}, {"n": 2}], ids=["1", "2"], path=tmp_path / "f"
    )
    assert store.embeddings is embedding
    assert store.similarity_search("b", k=1) == [Document("b", id="2", metadata={"n": 2})]
    assert ids(store.max_marginal_relevance_search("b", k=1)) == ["2"]
    store.close()
    with pytest.raises(Closed):
        store.similarity_search("b")
    again = MemosVectorStore.from_documents([Document("c", id="3")], embedding, path=tmp_path / "f")
    assert sorted(ids(again.similarity_search("c", k=9))) == ["1", "2", "3"]
    again.close()
    with pytest.raises(EmbedderMismatch):
        MemosVectorStore.from_texts(["d"], Embedding(size=8, model="fake-2"), path=tmp_path / "f")


async def test_from_texts_for_a_user(tmp_path: Path) -> None:
    """A user may be named, and then has the documents; a folder must be."""
    embedding: Embeddings = Embedding(size=8)
    store = await MemosVectorStore.afrom_texts(
        ["a"], embedding, ids=["1"], path=tmp_path / "f", user_id="alice"
    )
    assert ids(await store.asimilarity_search("a")) == ["1"]
    with pytest.raises(AccessDenied):
        store.similarity_search("a", user_id="bob")
    store.close()
    with pytest.raises(BadInput, match="path="):
        MemosVectorStore.from_texts(["a"], embedding)
    with pytest.raises(BadInput, match="JSON"):
        MemosVectorStore.from_texts(["a"], embedding, [{"no": object()}], path=tmp_path / "g")


async def test_async_methods_do_not_block_the_loop(tmp_path: Path, clock: FrozenClock) -> None:
    """While the model embeds and the disk is read, other coroutines run."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), clock=clock, background=False) as memos:
        store: VectorStore = MemosVectorStore(memos, user_id="alice")
        store.max_marginal_relevance_search("tea")  # loads modules
        with nothing_blocks():
            assert await store.aadd_documents(TEAS) == ids(TEAS)
            assert len(await store.aget_by_ids(["mint"])) == 1
            assert len(await store.asimilarity_search("tea", k=2)) == 2
            assert len(await store.asimilarity_search_with_relevance_scores("tea", k=2)) == 2
            assert len(await store.amax_marginal_relevance_search("tea", k=2)) == 2
            assert len(await store.as_retriever().ainvoke("tea")) == 4
            assert await store.adelete(["mint"])
