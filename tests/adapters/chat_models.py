"""Models that answer for the adapters' chat models: tiny, real, scripted and slow ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from memos_engine import ChatMessage, LocalModel, MemCube, MemOS, Scope
from memos_engine.testing.fakes import ScriptedChatModel
from tests.activation.tiny import network, tokenizer
from tests.smollm2 import smollm2_folder


@cache
def tiny_model() -> LocalModel:
    """A random model with a chat template, that reads bytes: what it says means nothing."""
    return LocalModel(network("llama"), tokenizer=tokenizer())


def tiny_folder(folder: Path) -> Path:
    """The same model as files."""
    network("llama").save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@cache
def smollm2() -> LocalModel:
    """SmolLM2-135M-Instruct, loaded once for a run of the tests."""
    return LocalModel(smollm2_folder(), device="cpu")


class SlowChatModel:
    """Takes 0.3 s for an answer, as a busy machine does."""

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Sleep, then answer."""
        time.sleep(0.3)
        return "Yes."


def asked(model: ScriptedChatModel, call: int = -1) -> str:
    """What the model was asked last, memories included."""
    return model.prompts[call][-1].content


def memory_of(memos: MemOS, user: str) -> MemCube:
    """A user's cube, as the adapters name it."""
    return memos.acting_as(Scope(user)).cube("memories")


def said_to(memos: MemOS, user: str) -> list[tuple[str | None, str]]:
    """Role and words of every turn that a user's memory holds, in order of capture."""
    return [
        (item.role, item.text)
        for item in reversed(memory_of(memos, user).list(kinds=["episode"], limit=1_000))
    ]
