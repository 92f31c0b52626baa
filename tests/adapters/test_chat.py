"""One answer, step by step: from any thread, left early, given up, and captured once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from memos_adapters._chat import Answering, Asked, NamedModel, checked_model, name_of, settings_of
from memos_engine import (
    BadInput,
    ChatMessage,
    MemCube,
    Message,
    MessageConflict,
    ModelFailed,
    ModelUnavailable,
)
from memos_engine.testing.fakes import ScriptedChatModel
from tests.adapters.chat_models import tiny_model


class Gated:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Wait, then answer."""
        self.asked.set()
        assert self.let.wait(20), "let go"
        return "Late."


def answering(
    cube: MemCube, model: Any, *, heard: Sequence[Message] | None = (), **settings: Any
) -> Answering:
    """An answer to a greeting."""
    said = (Message("user", "Hello.", id="m1"),)
    told = said if heard == () else heard
    return Answering(lambda: Asked(cube, model, said, told, "a1", "t", {"budget_tokens": 0, **settings}))


def turns(cube: MemCube) -> list[tuple[str | None, str]]:
    """Role and words of what was captured."""
    return [(item.role, item.text) for item in reversed(cube.list(kinds=["episode"], thread="t"))]


def test_steps_may_come_from_any_thread(cube: MemCube) -> None:
    """Each piece may be asked for in another thread; the answer is whole, and captured under its id, once."""
    whole = answering(cube, tiny_model(), heard=None, max_new_tokens=12).whole()
    answer = answering(cube, tiny_model(), max_new_tokens=12)
    pieces = []
    while True:
        with ThreadPoolExecutor(1) as pool:
            piece = pool.submit(next, answer, None).result()
        if piece is None:
            break
        pieces.append(piece)
    assert len(pieces) > 2
    assert "".join(pieces) == answer.answer.text == whole.text
    assert turns(cube) == [("user", "Hello."), ("assistant", whole.text.strip())]
    assert next(answer, None) is None
    answer.close()
    assert len(turns(cube)) == 2
    again = answering(cube, tiny_model(), max_new_tokens=12)
    again.whole()
    assert len(turns(cube)) == 2, "the same ids are the same messages"


def test_closing_waits_for_the_step_that_runs(cube: MemCube) -> None:
    """Closed while a piece is made, it ends after that piece, which is then part of what was said."""
    model = Gated()
    answer = answering(cube, model)
    with ThreadPoolExecutor(2) as pool:
        step = pool.submit(next, answer, None)
        assert model.asked.wait(20)
        closing = pool.submit(answer.close)
        assert not closing.done()
        model.let.set()
        assert step.result() == "Late."
        closing.result()
    assert turns(cube) == [("user", "Hello."), ("assistant", "Late.")]


async def test_given_up_it_captures_nothing(cube: MemCube) -> None:
    """A whole answer that is cancelled while the model works is not captured; a stream is, as far as it came."""
    model = Gated()
    answer = answering(cube, model)
    task = asyncio.create_task(answer.awhole())
    await asyncio.to_thread(model.asked.wait, 20)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, model.let.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns(cube) == []
    assert next(answer, None) is None
    async with aclosing(answering(cube, tiny_model(), max_new_tokens=12).steps()) as steps:
        first = await anext(steps)
    assert turns(cube) == [("user", "Hello."), ("assistant", first)]


def test_before_its_first_step_nothing_happens(cube: MemCube) -> None:
    """An answer that nobody steps through asks nothing, and can be closed."""
    model = ScriptedChatModel()
    answer = answering(cube, model)
    answer.close()
    assert next(answer, None) is None
    assert model.prompts == []
    assert turns(cube) == []


def test_an_error_ends_it(cube: MemCube) -> None:
    """After an error there is nothing to come, and nothing is captured."""
    answer = answering(cube, ScriptedChatModel(ModelFailed("no")))
    with pytest.raises(ModelFailed):
        next(answer)
    assert next(answer, None) is None
    assert turns(cube) == []


def test_an_edited_question_is_captured_beside_the_first(cube: MemCube) -> None:
    """A fork that edits a message under its id loses no answer for it."""
    cube.capture([Message("user", "Hello?", id="m1")], thread="t")
    with pytest.raises(MessageConflict):
        cube.capture([Message("user", "Hello.", id="m1")], thread="t")
    answering(cube, ScriptedChatModel("Hi.")).whole()
    assert turns(cube) == [("user", "Hello?"), ("user", "Hello."), ("assistant", "Hi.")]


def test_settings_are_the_calls_then_the_adapters() -> None:
    """What a call sets counts, else what the adapter does; what nobody sets is left out; zero is a setting."""

    class Fields:
        budget_s = min_score = policy = seed = stop = top_k = None
        budget_tokens, max_tokens, temperature, top_p = 100, 9, 0.5, 0.9

    found = settings_of(Fields(), {"temperature": 0, "top_p": None, "user_id": "alice"}, frozenset())
    assert found == {"budget_tokens": 100, "max_new_tokens": 9, "temperature": 0, "top_p": 0.9}
    with pytest.raises(BadInput, match="'colour'"):
        settings_of(Fields(), {"colour": "red"}, frozenset())


def test_a_name_is_one_model(tmp_path: Path) -> None:
    """Whoever names a folder shares its model; one that cannot be had is told in every call; what is none, at once."""
    named = checked_model(tmp_path)
    assert isinstance(named, NamedModel)
    assert checked_model(str(tmp_path)) is named
    assert checked_model(named) is named
    for _ in range(2):
        with pytest.raises((ModelUnavailable, BadInput)):
            named.load()
    other = checked_model(f"{tmp_path}/other")
    assert other is not named
    assert name_of(other) == f"{tmp_path}/other"
    with pytest.raises(BadInput, match="LocalModel"):
        checked_model(None)
