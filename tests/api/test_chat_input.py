"""What chat is handed: models and arguments that cannot be taken, and what is passed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from memos_engine import (
    BadInput,
    BadLimit,
    BadText,
    ChatMessage,
    ChatModel,
    MemCube,
    Message,
    ModelFailed,
)
from memos_engine.testing.fakes import ScriptedChatModel

ASKED = [Message("user", "Where did I move, Lisbon?")]


def saying(*answers: str | Exception) -> ScriptedChatModel:
    """A model that says these, in order."""
    return ScriptedChatModel(*answers)


def episodes(cube: MemCube) -> list[tuple[str, str]]:
    """Role and text of all turns, oldest first."""
    return [(item.role or "", item.text) for item in cube.list(kinds=["episode"])[::-1]]


class Completes:
    """What other libraries call a model: it completes a text."""

    def complete(self, prompt: str, formatted: bool = False, **more: object) -> str:
        """Go on with a text."""
        return prompt


class Asks:
    """Its `complete` takes no number of tokens."""

    def complete(self, messages: Sequence[ChatMessage]) -> str:
        """Answer."""
        return "so"


MODELS: list[tuple[object, str]] = [
    ("gpt2", r"LocalModel\('gpt2'\)"),
    (None, "hand over a LocalModel"),
    (ScriptedChatModel, "the class ScriptedChatModel"),
    (print, "hand over a LocalModel"),
    (object(), "hand over a LocalModel"),
    (Completes(), "a Completes: hand over a LocalModel"),
    (Asks(), "an? Asks: hand over a LocalModel"),
]


@pytest.mark.parametrize(("model", "told"), MODELS, ids=lambda each: type(each).__name__)
def test_what_is_no_model(cube: MemCube, model: Any, told: str) -> None:
    """Anything that cannot answer is refused with what to hand over."""
    with pytest.raises(BadInput, match=told):
        cube.chat(model, ASKED)
    with pytest.raises(BadInput, match=told):
        cube.chat_stream(model, ASKED)


def test_a_model_that_returns_no_text(cube: MemCube) -> None:
    """An answer that is no text is the model's failure, and nothing is captured."""

    class Odd:
        def complete(self, messages: object, *, max_tokens: int = 0, temperature: float = 0.0) -> Any:
            return 7

    with pytest.raises(ModelFailed, match="returned a int"):
        cube.chat(Odd(), ASKED)
    assert cube.list() == []


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"messages": []}, BadInput, "messages is empty"),
    ({"messages": [Message("assistant", "Hello.")]}, BadInput, "role 'assistant'"),
    ({"messages": [Message("user", "  ")]}, BadText, "blank"),
    ({"messages": Message("user", "Hi")}, BadInput, "hand over a list"),
    ({"messages": ["Hi"]}, BadInput, "make it a Message"),
    ({"thread": "a\nb"}, BadInput, "control character"),
    ({"budget_tokens": -1}, BadLimit, "budget_tokens"),
    ({"min_score": 2}, BadLimit, "min_score"),
    ({"policy": "best"}, BadInput, "policy"),
    ({"budget_s": 0}, BadLimit, "budget_s"),
    ({"budget_s": float("nan")}, BadLimit, "budget_s"),
    ({"max_new_tokens": 0}, BadLimit, "max_new_tokens"),
    ({"max_new_tokens": True}, BadLimit, "max_new_tokens"),
    ({"stop": "end"}, BadInput, "stop"),
    ({"stop": ["a", ""]}, BadInput, "stop"),
    ({"temperature": -0.1}, BadLimit, "temperature"),
    ({"temperature": float("inf")}, BadLimit, "temperature"),
    ({"top_p": 0}, BadLimit, "top_p"),
    ({"top_p": 1.5}, BadLimit, "top_p"),
    ({"top_k": -1}, BadLimit, "top_k"),
    ({"seed": "x"}, BadLimit, "seed"),
    ({"kinds": ["no"]}, BadInput, "kind"),
    ({"colour": "red"}, BadInput, "unknown field 'colour'"),
]


@pytest.mark.parametrize(("given", "error", "told"), BAD, ids=[str(given) for given, _, _ in BAD])
def test_what_cannot_be_taken(
    cube: MemCube, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    """Every argument is checked before the model is asked, and before a stream begins."""
    model = saying("never")
    for call in (cube.chat, cube.chat_stream):
        with pytest.raises(error, match=told):
            call(model, **{"messages": ASKED, **given})
    assert model.prompts == []


def test_what_a_plain_model_cannot_do(cube: MemCube) -> None:
    """A way of drawing that it has not is refused; stop strings and a limit it need not know are kept."""
    with pytest.raises(BadInput, match=r"top_p=0\.5"):
        cube.chat(saying("never"), ASKED, top_p=0.5)
    with pytest.raises(BadInput, match="top_k=3"):
        cube.chat(saying("never"), ASKED, top_k=3)
    with pytest.raises(BadInput, match="seed=1"):
        cube.chat(saying("never"), ASKED, seed=1)
    answer = cube.chat(saying("In Lisbon. END. Or not"), ASKED, stop=["never met", "END"])
    assert answer.text == "In Lisbon. "
    assert episodes(cube)[-1] == ("assistant", "In Lisbon. ")


def test_limits_are_passed_on(cube: MemCube) -> None:
    """A plain model is told how long and how freely to answer."""
    asked: list[tuple[int, float]] = []

    class Told:
        def complete(
            self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
        ) -> str:
            asked.append((max_tokens, temperature))
            return "ok"

    model: ChatModel = Told()
    cube.chat(model, ASKED)
    cube.chat(model, ASKED, max_new_tokens=7, temperature=0.5)
    assert asked == [(256, 0.0), (7, 0.5)]
