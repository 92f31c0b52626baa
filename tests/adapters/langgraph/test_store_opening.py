"""Stores from a path, with LangGraph's index configuration or without: opened, embedded, closed."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import IndexConfig, PutOp, SearchOp

from memos_adapters.langgraph.store import MemosStore
from memos_adapters.langgraph.store_index import embedder_of
from memos_engine import BadInput, BadVector, Closed, EmbedderMismatch, EmbedderUnavailable, MemOS
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder
from tests.adapters.langgraph.store_embeddings import DIMS, WordEmbeddings, aembed, embed

NS = ("memories",)
INDEX: IndexConfig = {"dims": DIMS, "embed": embed, "fields": ["text"]}


class NoModel:
    """An embedder of the engine that cannot be had."""

    @property
    def fingerprint(self) -> str:
        """None."""
        raise EmbedderUnavailable("no weights: type this or that")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Fail."""
        raise EmbedderUnavailable("no weights: type this or that")


def best(store: MemosStore, query: str) -> str:
    """Key of the item found first."""
    return store.search(NS, query=query)[0].key


def fill(store: MemosStore) -> None:
    """Three items."""
    for key, text in {"q": "the quokka slept", "k": "a kettle of tea", "b": "two boats"}.items():
        store.put(NS, key, {"text": text, "other": "harbour"})


# Opening


def test_a_folder_keeps_its_items(tmp_path: Path) -> None:
    """What was put is there when the folder is opened again, and the store is closed in between."""
    path = tmp_path / "memories"
    with MemosStore.from_conn_string(str(path), index=INDEX) as store:
        fill(store)
    with pytest.raises(Closed):
        store.get(NS, "q")
    with MemosStore.from_conn_string(path, index=INDEX) as store:
        assert best(store, "a quokka") == "q"


async def test_it_opens_both_ways(tmp_path: Path) -> None:
    """One object opens by `with` and by `async with`, one after the other."""
    connection = MemosStore.from_conn_string(tmp_path / "memories")
    async with connection as store:
        await store.aput(NS, "k", {"n": 1})
        await store.asetup()
    with connection as store:
        assert store.get(NS, "k") is not None


def test_a_memory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` is a folder of its own, gone on the way out, on an error too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with MemosStore.from_conn_string(":memory:") as one, MemosStore.from_conn_string(":memory:") as two:
        one.put(NS, "k", {})
        assert two.get(NS, "k") is None
        assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(BadInput), MemosStore.from_conn_string(":memory:") as store:
        store.put(NS, "", {})
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    """An error of opening comes out of `with`, and nothing is left behind."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder"), MemosStore.from_conn_string(tmp_path / "file"):
        pass


def test_leaving_stops_the_sweeper() -> None:
    """No thread of a store outlives it."""
    with MemosStore.from_conn_string(":memory:", ttl={"default_ttl": 1}) as store:
        future = store.start_ttl_sweeper(60)
        assert not future.done()
    assert future.result(timeout=30) is None
    assert not [thread for thread in threading.enumerate() if thread.name == "memos-ttl-sweeper"]


# Without a model


def test_without_an_index_queries_go_by_words() -> None:
    """A store without an index needs no model: queries rank by words, and leave no item out."""
    with MemosStore.from_conn_string(":memory:") as store:
        fill(store)
        found = store.search(NS, query="where is the quokka")
        assert [item.score is None for item in found] == [False, True, True]
        assert found[0].key == "q"
        assert store.index_config is None


def test_an_indexed_store_without_its_index(tmp_path: Path) -> None:
    """A folder with vectors can be opened without an index: reads, writes and queries by words go on."""
    with MemosStore.from_conn_string(tmp_path / "m", index=INDEX) as store:
        fill(store)
    with MemosStore.from_conn_string(tmp_path / "m") as store:
        assert best(store, "quokka") == "q"
        store.put(NS, "late", {"text": "a numbat"})
        assert best(store, "numbat") == "late"
    with MemosStore.from_conn_string(tmp_path / "m", index=INDEX) as store:
        assert best(store, "two boatz") == "b"
        assert {item.key for item in store.search(NS, query="two boatz")} == {"q", "k", "b", "late"}
        assert best(store, "numbat") == "late"


def test_words_are_made_up_for(tmp_path: Path) -> None:
    """What was put for its words alone is found by meaning once the cube was embedded anew."""
    with MemosStore.from_conn_string(tmp_path / "m") as store:
        fill(store)
    with MemOS.open(tmp_path / "m", embedder=HashEmbedder(), background=False) as memos:
        store = MemosStore(memos)
        assert [item.score for item in store.search(NS, query="kettlex")] == [None] * 3
        assert memos.reembed("store") == 3
        assert best(store, "kettlex") == "k"
        assert memos.check().ok


def test_a_default_embedder_without_weights(tmp_path: Path) -> None:
    """Over a MemOS whose model cannot be had, a store works by words or without an index, and else says so."""
    with MemOS.open(tmp_path, embedder=NoModel(), background=False) as memos:
        words = MemosStore(memos, embed=False)
        fill(words)
        assert best(words, "quokka") == "q"
        plain = MemosStore(memos, cube="plain", fields=[])
        fill(plain)
        assert [item.score for item in plain.search(NS, query="quokka")] == [None] * 3
        with pytest.raises(EmbedderUnavailable, match="type"):
            MemosStore(memos, cube="other").put(NS, "k", {"text": "x"})
        assert memos.check().ok


# Embedders


async def test_embedders_of_every_kind(tmp_path: Path) -> None:
    """Embeddings, functions, async functions and embedders of the engine index alike, for sync and async calls."""
    kinds: list[Any] = [
        WordEmbeddings(), embed, aembed, functools.partial(embed), HashEmbedder(DIMS),
    ]  # fmt: skip
    for number, kind in enumerate(kinds):
        index: IndexConfig = {"dims": DIMS, "embed": kind, "fields": ["text"]}
        async with MemosStore.from_conn_string(tmp_path / str(number), index=index) as store:
            fill(store)  # within a running loop
            await store.aput(NS, "late", {"text": "a numbat late"})
            found = await store.asearch(NS, query="numbats late", limit=4)
            assert found[0].key == "late"
            assert best(store, "quokkas") == "q"
            assert all(item.score is not None for item in found)
            results = await asyncio.to_thread(store.search, NS, query="a kettle")
            assert results[0].key == "k"
            assert store.index_config is index


def test_a_provider_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """`provider:model` is what LangChain makes of it; the text is the fingerprint."""
    asked: list[str] = []

    def init(name: str) -> WordEmbeddings:
        """Stand in for LangChain's own."""
        asked.append(name)
        return WordEmbeddings()

    monkeypatch.setattr("langgraph.store.base.embed._get_init_embeddings", lambda: init)
    made = embedder_of({"dims": DIMS, "embed": "openai:small"})
    assert asked == ["openai:small"]
    assert made.fingerprint == f"langgraph:openai:small:d{DIMS}"
    assert made.embed(["quokka"]).shape == (1, DIMS)


def test_fingerprints() -> None:
    """A fingerprint tells class or function, model and width, and can be given."""
    kinds: list[Any] = [WordEmbeddings(), embed, aembed, functools.partial(functools.partial(embed))]
    told = {embedder_of({"dims": 3, "embed": each}).fingerprint for each in kinds}
    assert told == {"langgraph:WordEmbeddings:words-1:d3", "langgraph:embed:d3", "langgraph:aembed:d3"}
    assert embedder_of({"dims": 3, "embed": embed}, "mine:1").fingerprint == "mine:1"
    own = HashEmbedder(3)
    assert embedder_of({"dims": 3, "embed": own}) is own  # type: ignore[typeddict-item] # -- we take more


def test_another_model_is_noticed(tmp_path: Path) -> None:
    """A folder whose vectors another model made is not searched with this one's."""
    with MemosStore.from_conn_string(tmp_path / "m", index=INDEX) as store:
        fill(store)
    with MemosStore.from_conn_string(tmp_path / "m", index=INDEX, fingerprint="another") as store:
        for call in (lambda: store.get(NS, "q"), lambda: best(store, "x")):
            with pytest.raises(EmbedderMismatch, match="reembed"):
                call()


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"dims": 3}, "embed"),
        ({"dims": 3, "embed": 5}, "embed"),
        ({"dims": 0, "embed": embed}, "dims"),
        ({"dims": "3", "embed": embed}, "dims"),
    ],
)
def test_an_index_that_is_none(index: Any, told: str) -> None:
    """What cannot embed is refused before anything is opened."""
    with pytest.raises(BadInput, match=told):
        MemosStore.from_conn_string(":memory:", index=index)


async def _too_few(texts: list[str]) -> list[list[float]]:
    return []


WRONG: dict[str, Any] = {
    "another width": lambda texts: [[1.0] * 5 for _ in texts],
    "too few": lambda texts: [[1.0] * DIMS][: len(texts) - 1],
    "too few awaited": _too_few,
    "no numbers": lambda texts: [["x"] * DIMS for _ in texts],
    "one row": lambda texts: [1.0] * len(texts),
    "nothing": lambda texts: None,
    "zeros": lambda texts: [[0.0] * DIMS for _ in texts],
}


@pytest.mark.parametrize("case", WRONG)
async def test_vectors_that_are_none(case: str) -> None:
    """What an embedder returns is checked, and nothing is stored when it is wrong, from sync and async calls."""
    index: IndexConfig = {"dims": DIMS, "embed": WRONG[case]}
    with MemosStore.from_conn_string(":memory:", index=index) as store:
        store.put(NS, "kept", {"n": 1}, index=False)
        with pytest.raises(BadVector):
            store.batch([PutOp(NS, "kept", {"n": 2}, False), PutOp(NS, "k", {"text": "quokka"})])
        with pytest.raises(BadVector):
            await store.abatch([PutOp(NS, "kept", None), PutOp(NS, "k", {"text": "quokka"})])
        assert [(item.key, item.value) for item in store.search(())] == [("kept", {"n": 1})]


async def test_an_embedder_that_fails() -> None:
    """The embedder's own error is told, and the store is as it was."""

    async def failing(texts: Sequence[str]) -> list[list[float]]:
        """Fail as a server that is down."""
        raise ConnectionError("no server")

    kinds: list[Any] = [failing, lambda texts: asyncio.run(failing(texts))]
    for kind in kinds:
        index: IndexConfig = {"dims": DIMS, "embed": kind}
        with MemosStore.from_conn_string(":memory:", index=index) as store:
            store.put(NS, "kept", {"n": 1}, index=False)
            with pytest.raises(ConnectionError, match="no server"):
                await store.abatch([PutOp(NS, "kept", None), PutOp(NS, "k", {"text": "quokka"})])
            assert [(item.key, item.value) for item in store.search(())] == [("kept", {"n": 1})]


async def test_an_async_function_is_awaited_by_its_caller() -> None:
    """An async call awaits on the caller's loop, however many run at once, even if it hops to threads itself."""
    loops: set[asyncio.AbstractEventLoop] = set()
    calls: list[int] = []

    async def hopping(texts: Sequence[str]) -> list[list[float]]:
        """Use the loop's own threads, as clients of servers do."""
        loops.add(asyncio.get_running_loop())
        calls.append(len(texts))
        return await asyncio.to_thread(embed, texts)

    index: IndexConfig = {"dims": DIMS, "embed": hopping, "fields": ["text"]}
    async with MemosStore.from_conn_string(":memory:", index=index) as store:
        puts = [store.aput(NS, f"k{n}", {"text": f"quokka {n}"}) for n in range(80)]
        await asyncio.wait_for(asyncio.gather(*puts), timeout=120)
        assert loops == {asyncio.get_running_loop()}
        calls.clear()
        results = await store.abatch(
            [
                PutOp(NS, "twice", {"text": "same words"}),
                PutOp(NS, "again", {"text": "same words"}),
                SearchOp(NS, query="quokka 7"),
                SearchOp(NS, query="quokka 7", limit=100),
            ]
        )
        assert calls == [1, 1]  # one question, then one text
        assert len(results[3]) == 80  # type: ignore[arg-type] # -- a search's answer


def test_equal_texts_are_embedded_once() -> None:
    """A text that stands in a batch many times is asked for once."""
    asked: list[list[str]] = []

    def counting(texts: Sequence[str]) -> list[list[float]]:
        """Note what is asked."""
        asked.append(list(texts))
        return embed(texts)

    index: IndexConfig = {"dims": DIMS, "embed": counting, "fields": ["text"]}
    with MemosStore.from_conn_string(":memory:", index=index) as store:
        store.batch([PutOp(NS, f"k{n}", {"text": f"quokka {n % 2}"}) for n in range(10)])
        assert asked == [["quokka 0", "quokka 1"]]


def test_questions_may_be_read_otherwise() -> None:
    """The vector of a query is `embed_query`'s, which a model may make otherwise."""

    class Asymmetric(WordEmbeddings):
        """Reads every question as one for tea."""

        def embed_query(self, text: str) -> list[float]:
            """Tea."""
            return embed(["a kettle of tea"])[0]

    with MemosStore.from_conn_string(":memory:", index={"dims": DIMS, "embed": Asymmetric()}) as store:
        fill(store)
        assert best(store, "zzz") == "k"


def test_fields_by_either_name() -> None:
    """`fields`, as LangGraph documents it, and `text_fields`, as its SQLite store reads it, mean the same."""
    for fields in ({"fields": ["other"]}, {"text_fields": ["other"]}, {"fields": "other"}):
        index: Any = {"dims": DIMS, "embed": embed, **fields}
        with MemosStore.from_conn_string(":memory:", index=index) as store:
            store.put(NS, "a", {"text": "quokka", "other": "harbour"})
            store.put(NS, "b", {"text": "harbour", "other": "quokka"})
            assert best(store, "harbour") == "a"
