"""Any chat model as a speaker: one list of messages in, one text out, nothing told about tokens."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence

from memos_engine.chat.prompt import Prompt, Said, Saying
from memos_engine.errors import BadInput, ModelFailed
from memos_engine.items import BlockInfo
from memos_engine.ports import ChatMessage, ChatModel
from memos_engine.recall.tokens import tokens_at_most

__all__ = ["PlainSpeaker", "stopped_at"]


class PlainSpeaker:
    """Speaks for a `ChatModel`: the answer comes in one piece."""

    def __init__(self, model: ChatModel) -> None:
        """Ask `model`."""
        self._model = model

    @property
    def apart(self) -> bool:
        """Lines of one day stand under one date."""
        return False

    def count_tokens(self, text: str) -> int:
        """An upper bound for any byte-level tokenizer."""
        return tokens_at_most(text)

    def room(self, before: Sequence[ChatMessage], question: str, answer_tokens: int) -> int | None:
        """Not known."""
        return None

    def blocks(self, item_ids: Sequence[str]) -> Sequence[BlockInfo]:
        """None: it reads text."""
        return ()

    def fetch(self, blocks: Sequence[BlockInfo]) -> Collection[str]:
        """None."""
        return ()

    def say(self, prompt: Prompt, how: Saying) -> Generator[str, None, Said]:
        """Yield the whole answer at once.

        Raises:
            BadInput: a way of choosing tokens is asked for that this model has not.
            ModelUnavailable, ModelRefused, ModelFailed: as the model raises them; or it returned no text.
        """
        for name, value, usual in (
            ("top_p", how.top_p, 1.0),
            ("top_k", how.top_k, 0),
            ("seed", how.seed, None),
        ):
            if value != usual:
                raise BadInput(f"{name}={value!r}: a {type(self._model).__name__} takes none, leave it out")
        began = time.perf_counter()
        answer: object = self._model.complete(
            prompt.messages(), max_tokens=how.max_new_tokens, temperature=how.temperature
        )
        if not isinstance(answer, str):
            raise ModelFailed(f"The chat model returned a {type(answer).__name__}, not a text.")
        seconds = time.perf_counter() - began
        text = stopped_at(answer, how.stop)
        if text:
            yield text
        return Said(text, "stop", seconds_to_first_token=seconds, reason="The model reads text.")


def stopped_at(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the strings that end it."""
    ends = [place for string in stop if (place := text.find(string)) >= 0]
    return text[: min(ends)] if ends else text
