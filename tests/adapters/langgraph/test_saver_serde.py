"""Bytes of values: no pickle, strict msgpack, encryption, and copies with another serializer."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memos_adapters.langgraph.saver import MemosSaver
from memos_engine import BadInput, Blob, MemOS, StoreDamaged
from tests.adapters.langgraph.saver_cases import config, counting, found, plain, put

ROOT = Path(__file__).parent.parent.parent.parent
KEY, OTHER_KEY = b"0123456789abcdef" * 2, b"fedcba9876543210" * 2
SECRET = "the vault's code is 4711"
THREAD = "langgraph:t"


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """Lend an open folder."""
    with MemOS.open(tmp_path, background=False) as memos:
        yield memos


class Unknown:
    """What msgpack cannot take."""


class Reversing:
    """A cipher of LangGraph's protocol."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Turn it round."""
        return "reversed", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Turn it back."""
        assert ciphername == "reversed"
        return ciphertext[::-1]


class TestPickle:
    def test_nothing_is_stored_as_pickle(self, memos: MemOS) -> None:
        """Values, writes and metadata that only pickle takes are refused, and nothing of the call is stored."""
        saver = MemosSaver(memos, serde=JsonPlusSerializer(pickle_fallback=True))
        where = put(saver, config(), {"a": 1}, {"a": "1"})
        before = memos.threads.blobs(THREAD)
        with pytest.raises(BadInput, match=r"channel 'b' holds a Unknown that only pickle.*plain data"):
            put(saver, where, {"a": 1, "b": Unknown()}, {"a": "1", "b": "1"})
        with pytest.raises(BadInput, match="pickle"):
            saver.put_writes(where, [("a", 1), ("b", Unknown())], "task")
        assert memos.threads.blobs(THREAD) == before

    def test_encryption_hides_no_pickle(self, memos: MemOS) -> None:
        """An encrypting serializer over one that pickles is refused as well."""
        inner = JsonPlusSerializer(pickle_fallback=True)
        for saver in (
            MemosSaver(memos, serde=inner, encryption=KEY),
            MemosSaver(memos, serde=EncryptedSerializer.from_pycryptodome_aes(inner, key=KEY)),
        ):
            with pytest.raises(BadInput, match="pickle"):
                put(saver, config(), {"a": Unknown()}, {"a": "1"})
        assert memos.threads.blobs(THREAD) == []

    @pytest.mark.parametrize("kind", ["pickle", "zlib:pickle", "pickle+reversed"])
    @pytest.mark.parametrize("space", ["channel", "write", "checkpoint"])
    def test_what_was_planted_is_not_unpickled(self, memos: MemOS, space: str, kind: str) -> None:
        """Bytes that another program stored as pickle are refused before they are opened."""
        inner = JsonPlusSerializer(pickle_fallback=True)
        saver = MemosSaver(memos, serde=inner, encryption=Reversing() if "+" in kind else None)
        where = put(saver, config(), {"a": 1}, {"a": "1"})
        saver.put_writes(where, [("a", 1)], "task")
        (blob,) = memos.threads.blobs(THREAD, space)
        head = b"" if space == "channel" else blob.data.partition(b"\n")[0] + b"\n"
        bomb = pickle.dumps(Exploding())
        bomb = zlib.compress(bomb) if "zlib" in kind else bomb[::-1] if "+" in kind else bomb
        memos.threads.put_blobs(THREAD, [Blob(blob.space, blob.key, blob.version, kind, head + bomb)])
        with pytest.raises(BadInput, match=r"stored as pickle.*delete the thread"):
            saver.get_tuple(where)
        assert not Exploding.exploded

    @pytest.mark.parametrize(
        "data", [b"", b"no zlib", zlib.compress(b"a" * 2**20), zlib.compress(b"a" * 600)[:-5]]
    )
    def test_what_does_not_inflate_is_damaged(self, memos: MemOS, data: bytes) -> None:
        """Cut short, foreign, or far larger than anything that is stored so."""
        saver = MemosSaver(memos)
        where = put(saver, config(), {"a": "a" * 600}, {"a": "1"})
        (blob,) = memos.threads.blobs(THREAD, "channel")
        assert blob.kind == "zlib:msgpack"
        memos.threads.put_blobs(THREAD, [Blob(blob.space, blob.key, blob.version, blob.kind, data)])
        with pytest.raises(StoreDamaged, match="channel 'a'"):
            saver.get_tuple(where)

    @pytest.mark.parametrize("length", [252, 253, 254, 4_092, 4_093, 4_094, 100_000])
    def test_every_length_comes_back(self, memos: MemOS, length: int) -> None:
        """On both sides of the lengths between which values are deflated."""
        saver = MemosSaver(memos)
        where = put(saver, config(), {"a": "a" * length}, {"a": "1"})
        assert found(saver, where).checkpoint["channel_values"] == {"a": "a" * length}

    def test_a_serializer_must_tell_kinds(self, memos: MemOS) -> None:
        """The pickle module itself has none, so it cannot be had by the back door."""
        with pytest.raises(BadInput, match="dumps_typed"):
            MemosSaver(memos, serde=cast("Any", pickle))


class Exploding:
    """Runs code when it is unpickled."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle is to call."""
        return (setattr, (Exploding, "exploded", True))


class TestEncryption:
    def test_no_secret_stands_on_disk(self, tmp_path: Path) -> None:
        """Values, writes and the checkpoint's own fields are encrypted; ids and metadata are told to be plain."""
        with MemosSaver.from_conn_string(tmp_path, encryption=KEY) as saver:
            where = put(
                saver,
                config(),
                {"a": SECRET, "b": b"!" + SECRET.encode()},
                {"a": "1", "b": "1"},
                note="plain",
            )
            saver.put_writes(where, [("a", [SECRET])], "task")
            assert found(saver, where).checkpoint["channel_values"]["a"] == SECRET
            assert found(saver, where).pending_writes == [("task", "a", [SECRET])]
            assert on_disk(tmp_path, b"plain"), "metadata stays plain"
            assert not on_disk(tmp_path, SECRET.encode())
            assert not on_disk(tmp_path, b"channel_versions")
        assert not on_disk(tmp_path, SECRET.encode())

    def test_without_the_key_nothing_opens(self, memos: MemOS) -> None:
        """No key and another key are told alike: with the cure."""
        where = put(MemosSaver(memos, encryption=KEY), config(), {"a": SECRET}, {"a": "1"})
        for saver in (MemosSaver(memos), MemosSaver(memos, encryption=OTHER_KEY)):
            with pytest.raises(BadInput, match="encryption=key"):
                saver.get_tuple(where)
        assert MemosSaver(memos, encryption=KEY).get_tuple(where) is not None

    def test_a_thread_may_be_encrypted_from_now_on(self, memos: MemOS) -> None:
        """What was stored plain still opens beside what is encrypted."""
        first = put(MemosSaver(memos), config(), {"a": 1}, {"a": "1"})
        saver = MemosSaver(memos, encryption=KEY)
        second = put(saver, first, {"a": 1, "b": 2}, {"a": "1", "b": "2"}, new={"b": "2"})
        assert found(saver, second).checkpoint["channel_values"] == {"a": 1, "b": 2}

    @pytest.mark.parametrize("length", [16, 24, 32])
    def test_keys_and_ciphers_serve(self, memos: MemOS, length: int) -> None:
        """AES keys of every length, and a cipher of one's own."""
        for encryption in (KEY[:length], Reversing()):
            saver = MemosSaver(memos, encryption=encryption)
            where = put(saver, config(), {"a": SECRET * 20}, {"a": "1"})
            assert found(saver, where).checkpoint["channel_values"] == {"a": SECRET * 20}

    def test_bad_keys_are_told(self, memos: MemOS) -> None:
        """A key of another length, and two encryptions at once."""
        with pytest.raises(BadInput, match=r"15 bytes.*secrets\.token_bytes"):
            MemosSaver(memos, encryption=KEY[:15])
        with pytest.raises(BadInput, match="already"):
            MemosSaver(memos, serde=EncryptedSerializer(Reversing()), encryption=KEY)


def on_disk(folder: Path, text: bytes) -> bool:
    """Whether any file of a folder holds these bytes."""
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())


class TestCopies:
    def test_a_copy_with_another_serializer(self, memos: MemOS) -> None:
        """It shares the threads and reads by its own serializer, as LangGraph's strict mode has it."""
        saver = MemosSaver(memos)
        where = put(saver, config(), {"a": [1]}, {"a": "1"})
        twin = copy.copy(saver)
        assert plain(twin.get_tuple(where)) == plain(saver.get_tuple(where))
        twin.serde = EncryptedSerializer.from_pycryptodome_aes(key=KEY)
        second = put(twin, where, {"a": [2]}, {"a": "2"})
        assert found(twin, second).checkpoint["channel_values"] == {"a": [2]}
        with pytest.raises(BadInput, match="encryption"):
            saver.get_tuple(second)
        assert found(saver, where).checkpoint["channel_values"] == {"a": [1]}

    @pytest.mark.parametrize("encryption", [None, KEY])
    def test_an_allowlist_makes_a_copy(self, memos: MemOS, encryption: bytes | None) -> None:
        """Under an allowlist, types that are not on it come back as plain data; those that are, as themselves."""
        strict = JsonPlusSerializer(allowed_msgpack_modules=None)
        saver = MemosSaver(memos, serde=strict, encryption=encryption)
        where = put(saver, config(), {"a": Point(1)}, {"a": "1"})
        assert found(saver, where).checkpoint["channel_values"] == {"a": {"x": 1}}
        allowing = cast("MemosSaver", saver.with_allowlist([(Point.__module__, "Point")]))
        assert allowing is not saver
        assert found(allowing, where).checkpoint["channel_values"] == {"a": Point(1)}


@dataclass
class Point:
    """A user's own type."""

    x: int


def test_strict_msgpack_runs_a_graph(tmp_path: Path) -> None:
    """In a process of LANGGRAPH_STRICT_MSGPACK=true, types of the graph's own state come back as themselves."""
    code = """
import sys
from dataclasses import dataclass
from langgraph.checkpoint.serde import _msgpack
from langgraph.graph import END, START, StateGraph
from memos_adapters.langgraph.saver import MemosSaver
from tests.adapters.langgraph.saver_cases import config

@dataclass
class Point:
    x: int

@dataclass
class State:
    point: Point
    n: int = 0

def node(state):
    return {"point": Point(state.point.x + 1), "n": state.n + 1}

assert _msgpack.STRICT_MSGPACK_ENABLED
builder = StateGraph(State)
builder.add_node("a", node)
builder.add_node("b", node)
builder.add_edge(START, "a")
builder.add_edge("a", "b")
with MemosSaver.from_conn_string(sys.argv[1]) as saver:
    graph = builder.compile(checkpointer=saver, interrupt_before=["b"])
    graph.invoke(State(Point(1)), config())
    graph.invoke(None, config())
    print(graph.get_state(config()).values, saver.get(config())["channel_values"]["point"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"LANGGRAPH_STRICT_MSGPACK": "true"},
    )  # fmt: skip
    assert ran.stdout == "{'point': Point(x=3), 'n': 2} {'x': 3}\n"


def test_a_graph_under_encryption(tmp_path: Path) -> None:
    """Runs, reopens and goes on; the graph's text is not on disk."""
    with MemosSaver.from_conn_string(tmp_path, encryption=KEY) as saver:
        graph = counting(3).compile(checkpointer=saver)
        graph.invoke({"n": 0, "seen": [4_711_471_147]}, config())
    with MemosSaver.from_conn_string(tmp_path, encryption=KEY) as saver:
        graph = counting(3).compile(checkpointer=saver)
        assert graph.get_state(config()).values == {"n": 3, "seen": [4_711_471_147, 0, 1, 2]}
    assert not on_disk(tmp_path, (4_711_471_147).to_bytes(8, "big"))
