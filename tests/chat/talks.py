"""A model, a conversation and what a cube was told, for tests of chat with a model of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from memos_engine import (
    BlockInfo,
    ChatAnswer,
    LocalModel,
    MemCube,
    Message,
    Scope,
)
from memos_engine.blocks.shelf import ActivationShelf
from memos_engine.chat.local import LocalSpeaker
from memos_engine.chat.prompt import Part, Prompt, Said, Saying
from tests.activation import tiny

ALICE, BOB = Scope(user="alice"), Scope(user="bob")
ASKED = [Message("user", "Where is it, Lisbon?")]
TALK = [Message("user", "Hello, I am new here, show me around."), Message("assistant", "Gladly."), *ASKED]
SAID = ["I moved to Lisbon in May.", "The boat to Lisbon was late.", "Lisbon has seven hills."]
NEW_TOKENS = 12


@cache
def local(name: str = "llama") -> LocalModel:
    """One model of each architecture for the whole file: tests must not be able to change it."""
    return LocalModel(tiny.network(name), tokenizer=tiny.tokenizer())


def turns(cube: MemCube) -> list[str]:
    """Ids of the turns told first, in order."""
    return [item.id for item in cube.list(kinds=["episode"], thread="old")[::-1]]


def chat(
    cube: MemCube, messages: Sequence[Message] = ASKED, model: LocalModel | None = None, **more: Any
) -> ChatAnswer:
    """A short answer that leaves the cube as it is."""
    return cube.chat(model or local(), messages, **{"max_new_tokens": NEW_TOKENS, "capture": False, **more})


def speaker(cube: MemCube, model: LocalModel | None = None, principal: str = "root") -> LocalSpeaker:
    """One who speaks in a turn in that cube."""
    return LocalSpeaker(model or local(), shelf(cube), principal)


def shelf(cube: MemCube) -> ActivationShelf:
    """The blocks of a cube."""
    return cube._host.activation(cube.id)


def said(one: LocalSpeaker, prompt: Prompt, how: Saying) -> Said:
    """What is said in the end."""
    going = one.say(prompt, how)
    while True:
        try:
            next(going)
        except StopIteration as over:
            done: Said = over.value
            return done


def part(cube: MemCube, info: BlockInfo) -> Part:
    """A block's passage as it stands in a prompt."""
    block = local().decode(shelf(cube).fetch(local(), [info])[0][info.id].ids)
    return Part(block, info.items, info.id)
