"""What chat hands to a model, and what it hears back: values, and the protocol of whoever speaks. Pure.

A prompt goes from what stays to what changes: the conversation so far, remembered passages, the question.
It knows no store and no model; how the parts are read, as text or as keys and values, is the speaker's.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from memos_engine.blocks.head import CLOSING, OPENING
from memos_engine.items import BlockInfo
from memos_engine.ports import ChatMessage

__all__ = ["Finish", "Part", "Prompt", "Said", "Saying", "Speaker"]

Finish: TypeAlias = Literal["stop", "length", "closed"]
"""The model ended, or a stop string did; room or `max_new_tokens` did; whoever listened left."""


@dataclass(frozen=True, slots=True)
class Part:
    """Remembered items in a row, as one text."""

    text: str
    """Date lines, and a line for each item, escaped; every line ends in a line break."""
    items: tuple[str, ...]
    """Ids of the items that stand there, in order."""
    block: str | None = None
    """Id of the block that holds it. None: it is read as text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation with what is remembered at the head of its last message."""

    before: tuple[ChatMessage, ...]
    """The conversation up to the last message; it may be empty."""
    memories: tuple[Part, ...]
    """Those with a block first, in the order the blocks were made; then those without."""
    question: str
    """Text of the last message, which the user said."""

    @property
    def remembered(self) -> str:
        """The memories between their delimiters, as data; "" where there are none."""
        text = "".join(part.text for part in self.memories)
        return f"{OPENING}{text}{CLOSING}" if self.memories else ""

    def messages(self) -> tuple[ChatMessage, ...]:
        """The whole prompt as messages, for a model that reads text."""
        return (*self.before, ChatMessage("user", f"{self.remembered}{self.question}"))


@dataclass(frozen=True, slots=True)
class Saying:
    """How an answer is to be made. Numbers are as the caller gave them: a speaker refuses what it cannot do."""

    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """Strings before the first of which the answer ends."""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means all."""
    seed: int | None = None
    policy: str = "auto"
    """Of composing blocks."""
    budget_s: float | None = None
    """What composing and reading may take. None means as long as it is worth it."""
    salt: str = ""
    """Names the principal and the cube, without telling them: what one has read before, no other finds."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and what it took. None: the model does not tell."""

    text: str
    finish: Finish
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt, those that were not read again."""
    completion_tokens: int | None = None
    method: str = "text"
    """How blocks were composed; `text` where there were none to compose."""
    error_class: str = "exact"
    """How far the answer may be from that of reading everything: `exact`, `rounded`, `small` or `moderate`."""
    reason: str = ""
    """Why this method, in a sentence."""
    seconds_to_first_token: float | None = None
    """From the call of `say` on."""


class Speaker(Protocol):
    """One model in one turn of one conversation. Made for a turn and used by one thread."""

    @property
    def apart(self) -> bool:
        """Each remembered item is a part by itself, in order of id: a prefix that a server can find again."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, or an upper bound where the model does not tell."""
        ...

    def room(self, before: Sequence[ChatMessage], question: str, answer_tokens: int) -> int | None:
        """Tokens left for memories when the answer takes `answer_tokens`; it may be negative. None: not known.

        Raises:
            BadInput: the conversation alone is more than the model reads.
        """
        ...

    def blocks(self, item_ids: Sequence[str]) -> Sequence[BlockInfo]:
        """Blocks that hold some of these items, as the store tells; () where the model has none."""
        ...

    def fetch(self, blocks: Sequence[BlockInfo]) -> Collection[str]:
        """Make blocks ready; return the ids of those that are. The others do not exist for this turn."""
        ...

    def say(self, prompt: Prompt, how: Saying) -> Generator[str, None, Said]:
        """Yield the answer in pieces; return what it took. No lock is held between two pieces.

        Raises:
            BadInput: the model cannot read the prompt, or cannot do what is asked.
            ModelUnavailable, ModelRefused, ModelFailed: it does not answer.
        """
        ...
