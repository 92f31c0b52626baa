"""Chat from an event loop: the same turns, a piece at a time, and the loop never waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from memos_engine import (
    AccessDenied,
    AsyncChatStream,
    AsyncMemCube,
    AsyncMemOS,
    BadInput,
    ChatMessage,
    LocalModel,
    Message,
    ModelFailed,
    Scope,
)
from memos_engine.testing.fakes import HashEmbedder, ScriptedChatModel
from tests.activation import tiny
from tests.adapters.loop_guard import nothing_blocks

ASKED = [Message("user", "Where did I move, Lisbon?")]


async def opened(root: Path) -> AsyncMemOS:
    """An open root without background work."""
    return await AsyncMemOS.open(root, embedder=HashEmbedder(), background=False)


async def texts(cube: AsyncMemCube) -> list[str]:
    """Texts of all turns, oldest first."""
    return [item.text for item in (await cube.list(kinds=["episode"]))[::-1]]


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """A tiny model."""
    return LocalModel(tiny.network("llama"), tokenizer=tiny.tokenizer())


async def test_a_turn(tmp_path: Path) -> None:
    """Question, answer and memory, as on the sync side."""
    async with await opened(tmp_path) as memos:
        cube = await memos.cube("alice")
        await cube.add("I moved to Lisbon")
        answer = await cube.chat(ScriptedChatModel("In Lisbon."), ASKED, thread="t")
        assert answer.text == "In Lisbon."
        assert len(answer.memories) == 1
        assert await texts(cube) == [ASKED[0].text, "In Lisbon."]


async def test_a_stream(tmp_path: Path, model: LocalModel) -> None:
    """The pieces come one by one; the whole answer is there in the end, and is that of `chat`."""
    async with await opened(tmp_path) as memos:
        cube = await memos.cube("alice")
        await cube.add("I moved to Lisbon")
        stream = cube.chat_stream(model, ASKED, capture=False, max_new_tokens=12)
        with pytest.raises(BadInput, match="no answer yet"):
            _ = stream.answer
        pieces = [piece async for piece in stream]
        assert len(pieces) > 1
        whole = await cube.chat(model, ASKED, capture=False, max_new_tokens=12)
        assert "".join(pieces) == stream.answer.text == whole.text
        assert [piece async for piece in stream] == []


async def test_closed_early(tmp_path: Path, model: LocalModel) -> None:
    """A stream that is left is captured as far as it was heard; one that nobody heard is not."""
    async with await opened(tmp_path) as memos:
        cube = await memos.cube("alice")
        async with cube.chat_stream(model, ASKED, max_new_tokens=100) as stream:
            heard = ""
            async for piece in stream:
                heard += piece
                if len(heard) > 3:
                    break
        assert (stream.answer.text, stream.answer.finish) == (heard, "closed")
        assert stream.answer.captured is not None
        before = await texts(cube)
        unheard = cube.chat_stream(model, ASKED)
        await unheard.aclose()
        await unheard.aclose()
        assert [piece async for piece in unheard] == []
        with pytest.raises(BadInput, match="no answer"):
            _ = unheard.answer
        assert await texts(cube) == before


async def test_refusals_come_with_the_first_piece(tmp_path: Path) -> None:
    """What the sync side refuses at once is refused when the stream is first listened to, and then it is over."""
    async with await opened(tmp_path) as memos:
        own = await memos.acting_as(Scope(user="alice")).cube("diary")
        await own.grant(Scope(user="bob"), "read")
        cube = await memos.acting_as(Scope(user="bob")).cube("diary", owner="user:alice")
        model = ScriptedChatModel("never")
        with pytest.raises(AccessDenied):
            await anext(cube.chat_stream(model, ASKED))
        with pytest.raises(BadInput):
            await anext(own.chat_stream(model, []))
        with pytest.raises(ModelFailed):
            await anext(own.chat_stream(ScriptedChatModel(ModelFailed("no")), ASKED))
        assert model.prompts == []
        assert await texts(own) == []


class Slow:
    """A chat model that waits until it may answer."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Wait, then answer."""
        self.asked.set()
        assert self.go.wait(30)
        return "late"


async def test_the_loop_goes_on(tmp_path: Path) -> None:
    """While a model takes its time, the loop serves others."""
    async with await opened(tmp_path) as memos:
        cube, slow = await memos.cube("alice"), Slow()
        turn = asyncio.create_task(cube.chat(slow, ASKED))
        assert await asyncio.to_thread(slow.asked.wait, 30)
        await cube.add("meanwhile")
        assert not turn.done()
        slow.go.set()
        assert (await turn).text == "late"


async def test_nothing_blocks_the_loop(tmp_path: Path, model: LocalModel) -> None:
    """No lock, file, database or model is waited for on the loop, from the first piece to the capture."""
    async with await opened(tmp_path) as memos:
        cube = await memos.cube("alice")
        item = await cube.add("I moved to Lisbon")
        await cube.activation.build(model, [item.id])
        with nothing_blocks():
            await cube.chat(model, ASKED, max_new_tokens=4)
            async with cube.chat_stream(model, ASKED, max_new_tokens=50) as stream:
                await anext(stream)
            assert stream.answer.finish == "closed"
            assert [piece async for piece in cube.chat_stream(ScriptedChatModel("so"), ASKED)] == ["so"]


async def test_cancelled(tmp_path: Path) -> None:
    """A listener that is cancelled while it waits has heard nothing; closing waits for the piece and keeps nothing."""
    async with await opened(tmp_path) as memos:
        cube, slow = await memos.cube("alice"), Slow()

        async def listen(stream: AsyncChatStream) -> None:
            async with stream:
                await anext(stream)

        task = asyncio.create_task(listen(cube.chat_stream(slow, ASKED)))
        assert await asyncio.to_thread(slow.asked.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = await texts(cube)
        assert kept in ([], [ASKED[0].text, "late"]), "the piece was made, or it was not; never half a turn"
        await cube.add("still works")


def test_a_stream_outlives_its_loop(tmp_path: Path) -> None:
    """A stream made in one event loop goes on in the next."""
    memos = asyncio.run(opened(tmp_path))
    cube = asyncio.run(memos.cube("alice"))
    stream = cube.chat_stream(ScriptedChatModel("In Lisbon."), ASKED)

    async def following() -> str:
        return await anext(stream)

    async def rest() -> list[str]:
        return [piece async for piece in stream]

    assert asyncio.run(following()) == "In Lisbon."
    assert asyncio.run(rest()) == []
    assert stream.answer.captured is not None
    asyncio.run(memos.close())


async def test_activation(tmp_path: Path, model: LocalModel) -> None:
    """Blocks are built, told and dropped from a loop too."""
    async with await opened(tmp_path) as memos:
        cube = await memos.cube("alice")
        item = await cube.add("I moved to Lisbon")
        info = await cube.activation.build(model, [item.id])
        assert [each.id for each in await cube.activation.list()] == [info.id]
        assert (await cube.chat(model, ASKED, capture=False, max_new_tokens=2)).method == "exact"
        await cube.activation.drop(info.id)
        assert (await cube.activation.stats()).blocks == 0
