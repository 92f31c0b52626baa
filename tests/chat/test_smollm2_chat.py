"""Chat with a real model, SmolLM2-135M-Instruct: what it reads as keys and values, it knows as from text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_engine import LocalModel, MemCube, MemOS, Message
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from tests.smollm2 import smollm2_folder

pytestmark = pytest.mark.slow

TOLD = [
    Message("user", "My dog is called Bruno, he is a beagle.", name="Ann"),
    Message("assistant", "Bruno is a lovely name."),
    Message("user", "Every morning I walk Bruno, my dog, along the river.", name="Ann"),
]
ASKED = [Message("user", "What is the name of Ann's dog? Answer with one word.")]
TALK = [
    Message("system", "You are a helpful assistant who answers in one short sentence."),
    Message("user", "Good morning! I hope that you can help me with something about Ann today."),
    Message("assistant", "Good morning! Of course, what would you like to know?"),
    *ASKED,
]


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """The model, in float32."""
    return LocalModel(smollm2_folder(), device="cpu")


@pytest.fixture
def cube(tmp_path: Path) -> Iterator[MemCube]:
    """A cube that was told of a dog."""
    clock = FrozenClock(datetime(2025, 6, 1, 12, tzinfo=UTC))
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(256), clock=clock, background=False) as memos:
        cube = memos.cube("ann")
        cube.capture(TOLD, thread="old")
        yield cube


def test_it_knows_what_it_was_told(cube: MemCube, model: LocalModel) -> None:
    """The answer comes from memory: as text, as a block where it was made, and as one that was moved."""
    as_text = [cube.chat(model, talk, capture=False, max_new_tokens=24) for talk in (ASKED, TALK)]
    assert all("Bruno" in answer.text for answer in as_text), as_text
    blank = cube.chat(model, ASKED, capture=False, max_new_tokens=24, budget_tokens=0)
    assert "Bruno" not in blank.text
    items = [item.id for item in cube.list(kinds=["episode"])[::-1]]
    cube.activation.build(model, items)
    in_place = cube.chat(model, ASKED, capture=False, max_new_tokens=24)
    assert (in_place.method, in_place.text) == ("exact", as_text[0].text)
    moved = cube.chat(model, TALK, capture=False, max_new_tokens=24, policy="drift")
    assert (moved.method, moved.error_class) == ("drift", "small")
    assert "Bruno" in moved.text
    in_full = cube.chat(model, TALK, capture=False, max_new_tokens=24, policy="full")
    assert in_full.text == as_text[1].text


def test_a_conversation_goes_on(cube: MemCube, model: LocalModel) -> None:
    """Each turn reads what the last one did not, and is captured once."""
    talk, read, said = list(TALK), 0, ""
    for question in ("And where does she walk?", "Thank you!"):
        with cube.chat_stream(model, talk, thread="new", max_new_tokens=16) as stream:
            assert "".join(stream) == stream.answer.text
        assert stream.answer.cached_tokens is not None
        assert stream.answer.cached_tokens >= read
        before = [message for message in talk if message.role != "system"]
        read = len(model.encode(" ".join(message.text for message in before[:-1])))
        said = stream.answer.text
        talk += [Message("assistant", said), Message("user", question)]
    texts = [item.text for item in cube.list(kinds=["episode"], thread="new")[::-1]]
    assert texts == [ASKED[0].text, talk[4].text, talk[5].text, said]
