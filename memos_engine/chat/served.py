"""Speaks for a model behind a server that keeps its own keys and values; see docs/serving.md.

A prefix cache reuses what stands before the first difference of two prompts, so a prompt goes from what
stays to what changes: system text and conversation, then memories in the order of their ids (new ones have
the highest), then the question. LMCache's blending reuses chunks wherever they stand, as long as none
before is new: there the memories come first. Which memories stand there is decided before.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence
from contextlib import closing

from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.chat.prompt import Prompt, Said, Saying
from memos_engine.items import BlockInfo
from memos_engine.models.served import ServedAnswer, ServedModel, ServedUsage
from memos_engine.ports import ChatMessage
from memos_engine.recall.tokens import tokens_at_most

__all__ = ["ServedSpeaker"]

_APART = " "
"""Behind a separator: byte-level tokenizers join its last space to a word, and LMCache would not find it."""


class ServedSpeaker:
    """Speaks for a `ServedModel`: text goes over, and the server reuses of it what it has read."""

    apart = True
    """Each memory is a part of its own, so that one more changes nothing of those before it."""

    def __init__(self, model: ServedModel) -> None:
        """Ask `model`."""
        self._model = model

    def count_tokens(self, text: str) -> int:
        """By the model's own counter, else an upper bound for any byte-level tokenizer."""
        return (self._model.count_tokens or tokens_at_most)(text)

    def room(self, before: Sequence[ChatMessage], question: str, answer_tokens: int) -> int | None:
        """Not known: the server refuses what is too long."""
        return None

    def blocks(self, item_ids: Sequence[str]) -> Sequence[BlockInfo]:
        """None: the server's cache is its own."""
        return ()

    def fetch(self, blocks: Sequence[BlockInfo]) -> Collection[str]:
        """None, as of `blocks`."""
        return ()

    def say(self, prompt: Prompt, how: Saying) -> Generator[str, None, Said]:
        """Yield the answer as it comes; return what the server tells of it. Composing blocks is not its affair.

        Raises:
            BadInput: a number is out of its range, or the server refused the request.
            ModelUnavailable, ModelFailed: as of `ServedModel.say`.
        """
        began, first = time.perf_counter(), None
        pieces = self._model.say(
            self._messages(prompt),
            salt=how.salt,
            max_tokens=how.max_new_tokens,
            stop=how.stop,
            temperature=how.temperature,
            top_p=how.top_p,
            top_k=how.top_k,
            seed=how.seed,
        )
        with closing(pieces):
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    return _said(end.value, first)
                first = time.perf_counter() - began if first is None else first
                yield piece

    def warm(self, prompt: Prompt, how: Saying) -> ServedUsage:
        """Let the server read a prompt, or a conversation without a question, before it is needed.

        Raises:
            BadInput, ModelUnavailable, ModelFailed: as of `ServedModel.warm`.
        """
        asks = bool(prompt.question or prompt.memories)
        return self._model.warm(self._messages(prompt) if asks else prompt.before, salt=how.salt)

    def _messages(self, prompt: Prompt) -> tuple[ChatMessage, ...]:
        separator, before = self._model.separator, prompt.before
        if separator is None or not prompt.memories:
            return prompt.messages()
        system = ""
        if before and before[0].role == "system":
            system, before = f"{before[0].content}\n\n", before[1:]
        texts = [f"{system}{OPENING.rstrip()}", *(part.text.rstrip() for part in prompt.memories), CLOSING]
        return (
            ChatMessage("system", f"{separator}{_APART}".join(texts).rstrip()),
            *before,
            ChatMessage("user", prompt.question),
        )


def _said(answer: ServedAnswer, seconds_to_first_token: float | None) -> Said:
    known = answer.finish in {"stop", "length"}
    return Said(
        answer.text,
        "length" if answer.finish == "length" else "stop",
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=answer.usage.cached_tokens,
        completion_tokens=answer.usage.completion_tokens,
        reason="The server reads text, and keeps what it read."
        + ("" if known else f" It ended the answer itself: {answer.finish!r}."),
        seconds_to_first_token=seconds_to_first_token,
    )
