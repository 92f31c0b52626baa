"""A conversation as JSON over threads: whole or not there, and erased from the disk with its bytes."""

from __future__ import annotations

import base64
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memos_adapters._chat_log import ChatLog
from memos_adapters._media import JsonValue
from memos_engine import BadInput, Conflict, MemOS, NotFound, Threads
from memos_engine.testing.fakes import HashEmbedder


def image(seed: int) -> bytes:
    """Bytes that stand nowhere else on the disk."""
    return random.Random(seed).randbytes(3_000)


def shown(seed: int, text: str = "look") -> dict[str, JsonValue]:
    """A message with an image."""
    url = f"data:image/png;base64,{base64.b64encode(image(seed)).decode()}"
    return {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "url": url}]}


def on_disk(memos: MemOS, needle: bytes) -> bool:
    """Whether bytes stand in any file of the root."""
    root = memos._host.root
    return any(needle in path.read_bytes() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def log(memos: MemOS) -> ChatLog:
    """An empty log."""
    return ChatLog(memos.threads, "chat/s")


def values(log: ChatLog) -> list[dict[str, JsonValue]]:
    """The messages of a log."""
    return [logged.value for logged in log.messages()]


def test_messages_come_back_as_they_were(memos: MemOS, log: ChatLog) -> None:
    """In order, the last ones first, or those behind a position; for another handle and principal too."""
    said: list[dict[str, JsonValue]] = [{"n": 1}, shown(1), {"$memos": {"sha256": "x"}}, {}]
    assert log.append(said[:2]) == [1, 2]
    assert log.append(said[2:], ids=["m3", None]) == [3, 4]
    assert values(log) == said
    assert [logged.position for logged in log.messages(newest=True, limit=2)] == [4, 3]
    assert [logged.id for logged in log.messages(after=2)] == ["m3", None]
    assert values(ChatLog(memos.threads, "chat/s")) == said
    assert ChatLog(memos.threads, "chat/other").messages() == []
    assert log.append([]) == []


def test_an_id_is_logged_once(log: ChatLog, memos: MemOS) -> None:
    """A retry with ids changes nothing, media included; other content under an id is refused, and none of it stays."""
    assert log.append([shown(1), {"n": 2}], ids=["a", "b"]) == [1, 2]
    assert log.append([shown(1), {"n": 2}, {"n": 3}], ids=["a", "b", "c"]) == [1, 2, 3]
    with pytest.raises(Conflict):
        log.append([{"new": 1}, shown(2)], ids=["d", "a"])
    assert values(log) == [shown(1), {"n": 2}, {"n": 3}]
    assert not on_disk(memos, image(2))
    assert len(memos.threads.blobs("chat/s")) == 1


def test_what_is_no_json_is_refused(log: ChatLog) -> None:
    """What would not come back, too few ids, and endless nesting are refused; nothing is logged."""
    deep: JsonValue = []
    for _ in range(2_000):
        deep = [deep]
    bad: list[dict[str, JsonValue]] = [{"n": float("nan")}, {"t": "\ud800"}, {"deep": deep}]
    for wrong in bad:
        with pytest.raises(BadInput):
            log.append([{"ok": 1}, wrong])
    with pytest.raises(BadInput, match="one for each"):
        log.append([{}], ids=[])
    assert log.messages() == []


def test_removed_bytes_leave_the_disk(memos: MemOS, log: ChatLog) -> None:
    """Removed, replaced or cleared, text and bytes are in no file any more; equal bytes of others stay."""
    log.append([shown(1, "first words"), shown(1, "second words"), shown(2, "third words")])
    assert on_disk(memos, image(1))
    assert log.remove([1, 99]) == 1
    assert not on_disk(memos, b"first words")
    assert values(log)[0] == shown(1, "second words"), "equal bytes of another message are its own"
    log.replace(2, {"instead": shown(3)})
    assert not on_disk(memos, image(1))
    assert not on_disk(memos, b"second words")
    assert values(log) == [{"instead": shown(3)}, shown(2, "third words")]
    log.clear()
    for needle in (image(2), image(3), b"third words"):
        assert not on_disk(memos, needle)
    assert log.messages() == []
    assert log.remove([]) == 0


def test_messages_take_the_place_of_others(memos: MemOS, log: ChatLog) -> None:
    """In one commit, under an id that left with them too, and the old bytes leave the disk; or all stays as it was."""
    log.append([shown(1), {"n": 2}, shown(3)], ids=["a", "b", "c"])
    with pytest.raises(Conflict):
        log.append([{"n": 4}, {"n": 5}], ids=["d", "b"], removing=[1, 3])
    assert values(log) == [shown(1), {"n": 2}, shown(3)]
    assert log.append([shown(3, "now"), {"n": 4}], ids=["c", "d"], removing=[1, 3]) == [4, 5]
    assert values(log) == [{"n": 2}, shown(3, "now"), {"n": 4}]
    assert not on_disk(memos, image(1))
    assert len(memos.threads.blobs("chat/s")) == 1


def test_replacing_what_is_gone_leaves_nothing(memos: MemOS, log: ChatLog) -> None:
    """To replace a message that is not there is refused, and its bytes are not kept."""
    with pytest.raises(NotFound):
        log.replace(1, shown(1))
    log.append([{"n": 1}])
    with pytest.raises(NotFound):
        log.replace(2, shown(1))
    assert not on_disk(memos, image(1))
    log.replace(1, shown(1))
    log.replace(1, shown(1))
    assert values(log) == [shown(1)], "replaced by its equal, it keeps its bytes"


def test_bytes_come_with_their_message(memos: MemOS) -> None:
    """What cannot be appended brings no bytes: one commit holds both."""
    threads = memos.threads
    with pytest.raises(BadInput):
        ChatLog(threads, "chat/s").append([shown(1), {"n": float("inf")}])
    assert threads.blobs("chat/s") == []
    assert threads.threads() == []


def test_many_threads_write_one_log(memos: MemOS) -> None:
    """While some append, remove, replace and clear, each reader meets whole messages, and no bytes stay behind."""
    log = ChatLog(memos.threads, "chat/s")
    stop = threading.Event()

    def append(worker: int) -> None:
        for n in range(12):
            log.append([shown(1_000 * worker + n), {"plain": n}], ids=[f"{worker}/{n}", None])

    def remove(seed: int) -> None:
        chosen = random.Random(seed)
        while not stop.is_set():
            held = log.messages()
            if len(held) > 8:
                log.remove([logged.position for logged in chosen.sample(held, 4)])
            if chosen.random() < 0.05:
                log.clear()

    def read() -> int:
        seen = 0
        while not stop.is_set():
            for logged in log.messages():
                assert logged.value.keys() in ({"plain"}, {"role", "content"})
                seen += 1
        return seen

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(append, worker) for worker in range(3)]
        others = [pool.submit(remove, seed) for seed in range(2)]
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for writer in writers:
                writer.result(60)
        finally:
            stop.set()
        for other in others:
            other.result(60)
        assert sum(reader.result(60) for reader in readers) > 0
    log.remove([logged.position for logged in log.messages()])
    assert memos.threads.blobs("chat/s") == []


def test_retries_of_one_message_meet(memos: MemOS) -> None:
    """Several threads that append the same messages by id log each once."""
    said = [shown(n) for n in range(4)]

    def append(_: int) -> list[int]:
        return ChatLog(memos.threads, "chat/s").append(said, ids=[str(n) for n in range(4)])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(append, range(12))) == [[1, 2, 3, 4]] * 12
    assert values(ChatLog(memos.threads, "chat/s")) == said
    assert len(memos.threads.blobs("chat/s")) == 4


def test_a_log_outlives_its_process(tmp_path: Path) -> None:
    """What was logged is there, whole, when the root is opened again."""
    for _ in range(2):
        with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), background=False) as memos:
            ChatLog(memos.threads, "chat/s").append([shown(1)], ids=["a"])
            assert values(ChatLog(memos.threads, "chat/s")) == [shown(1)]


def test_another_principals_log_is_another(memos: MemOS, log: ChatLog) -> None:
    """The same name under another principal is empty."""
    log.append([shown(1)])
    stranger: Threads = memos._host.threads("user:mallory")
    assert ChatLog(stranger, "chat/s").messages() == []
    assert ChatLog(stranger, "chat/s").remove([1]) == 0
    ChatLog(stranger, "chat/s").clear()
    assert values(log) == [shown(1)]
