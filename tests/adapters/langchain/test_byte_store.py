"""A byte store: values by key, each user's apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests

from memos_adapters.langchain import MemosByteStore
from memos_adapters.langchain.embeddings import MemosEmbeddings
from memos_engine import AccessDenied, BadInput, BadName, IdentityMissing, MemCube, MemOS
from tests.adapters.loop_guard import SlowEmbedder, nothing_blocks

VALUES = (b"one", b"", bytes(range(256)))


class TestStandard(BaseStoreSyncTests[bytes]):
    """LangChain's own tests."""

    @pytest.fixture
    def kv_store(self, memos: MemOS) -> BaseStore[str, bytes]:
        return MemosByteStore(memos, user_id="alice")

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return VALUES


class TestStandardAsync(BaseStoreAsyncTests[bytes]):
    """LangChain's own tests, awaited."""

    @pytest.fixture
    async def kv_store(self, memos: MemOS) -> BaseStore[str, bytes]:
        return MemosByteStore(memos, user_id="alice")

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return VALUES


def test_any_text_is_a_key(memos: MemOS) -> None:
    """Keys may be empty, long, of any script, and hold what other stores give a meaning to."""
    store = MemosByteStore(memos, user_id="alice")
    keys = ["", " ", "a/b", "a%b", "a_b", "日本", "x" * 4_096, "line\nbreak"]
    store.mset([(key, key.encode()) for key in keys])
    assert store.mget(keys) == [key.encode() for key in keys]
    assert sorted(store.yield_keys()) == sorted(keys)
    assert list(store.yield_keys(prefix="a%")) == ["a%b"]
    with pytest.raises(BadName):
        store.mset([("fine", b""), ("nul\0", b"")])
    assert store.mget(["fine", "fine"]) == [None, None]
    with pytest.raises(BadInput):
        store.mset([("key", "text")])  # type: ignore[list-item] # -- what is tested


def test_no_keys_are_no_error(memos: MemOS) -> None:
    """Empty calls do nothing."""
    store = MemosByteStore(memos, user_id="alice")
    store.mset([])
    store.mdelete([])
    assert store.mget([]) == []
    assert list(store.yield_keys()) == []


def test_users_and_collections_are_apart(memos: MemOS) -> None:
    """Nobody sees another's keys, and a collection none of another's."""
    stores = [
        MemosByteStore(memos, user_id="alice"),
        MemosByteStore(memos, user_id="bob"),
        MemosByteStore(memos, agent_id="alice"),
        MemosByteStore(memos, user_id="alice", collection="other"),
    ]
    for n, store in enumerate(stores):
        store.mset([("key", str(n).encode())])
    assert [store.mget(["key"]) for store in stores] == [[b"0"], [b"1"], [b"2"], [b"3"]]
    stores[0].mdelete(["key"])
    assert [list(store.yield_keys()) for store in stores] == [[], ["key"], ["key"], ["key"]]


def test_a_chain_names_its_user(memos: MemOS, cube: MemCube) -> None:
    """Within a chain its config counts; elsewhere a store that is bound to nobody refuses."""
    store = MemosByteStore(memos)

    def write(value: bytes) -> None:
        store.mset([("key", value)])

    def read(store: MemosByteStore) -> list[bytes | None]:
        return store.mget(["key"])

    alice: RunnableConfig = {"configurable": {"user_id": "alice"}}
    RunnableLambda(write).invoke(b"hers", alice)
    assert read(MemosByteStore(memos, user_id="alice")) == [b"hers"]
    with pytest.raises(IdentityMissing):
        read(store)
    with pytest.raises(AccessDenied):
        RunnableLambda(read).invoke(MemosByteStore(memos, user_id="bob"), alice)
    with pytest.raises(BadInput, match="threads"):
        MemosByteStore(cube).mget(["key"])  # type: ignore[arg-type] # -- what is tested


def test_a_cache_of_vectors(memos: MemOS) -> None:
    """LangChain's cache of embeddings keeps its vectors in it: what is there is not embedded again."""
    counted: list[str] = []

    class Counting(MemosEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            counted.extend(texts)
            return super().embed_documents(texts)

    store = MemosByteStore(memos, user_id="alice")
    cached = CacheBackedEmbeddings.from_bytes_store(
        Counting(memos.embedder), store, namespace="m", key_encoder="sha256"
    )
    first = cached.embed_documents(["tea", "coffee"])
    assert cached.embed_documents(["coffee", "tea"]) == first[::-1]
    assert counted == ["tea", "coffee"]
    assert all(key.startswith("m") for key in store.yield_keys())


async def test_async_methods_do_not_block_the_loop(tmp_path: Path) -> None:
    """While the disk is read and written, other coroutines run."""
    with MemOS.open(tmp_path / "slow", embedder=SlowEmbedder(), background=False) as memos, nothing_blocks():
        store = MemosByteStore(memos, user_id="alice")
        await store.amset([("a", b"1"), ("b", b"2")])
        assert await store.amget(["b", "c"]) == [b"2", None]
        await store.amdelete(["b"])
        assert [key async for key in store.ayield_keys(prefix="")] == ["a"]
