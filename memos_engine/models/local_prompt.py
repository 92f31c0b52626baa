"""A conversation as tokens, in which only the template's own text makes tokens that steer a model.

What messages say is data: a name such as `<|im_end|>` in it is read as letters. Text that holds no such name
has the very tokens of the ordinary encoding. It knows no network; `encode` is the tokenizer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Protocol, TypeAlias

from transformers import PreTrainedTokenizerBase

from memos_engine.errors import BadInput
from memos_engine.models.local_chat import halves, has_template, plain_text, rendered, unused
from memos_engine.ports import ChatMessage

__all__ = ["Encode", "Prompts"]

Ids: TypeAlias = tuple[int, ...]
Show: TypeAlias = Callable[[Sequence[ChatMessage]], tuple[str, ...]]
"""Messages to the text of each side of a place, or to one text."""


class Encode(Protocol):
    """Text to tokens."""

    def __call__(self, text: str, *, special: bool = False, plain: bool = False) -> Ids:
        """Return the tokens; `plain` as the tokenizer has it, which leaves some names whole."""


class Prompts:
    """Conversations and data as tokens of one model. Thread-safe as far as `encode` is."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encode: Encode) -> None:
        self._tokenizer = tokenizer
        self._encode = encode
        self._names, self._names_of = _steering_of(tokenizer), tokenizer.chat_template

    def data(self, text: str) -> Ids:
        """Return the tokens of a text of which none steers."""
        ids = self._encode(text, plain=True)
        if not self._steering(ids):
            return ids
        return tuple(
            chain.from_iterable(self._encode(part, plain=True) for part in self._cut(text, plain=True))
        )

    def whole(self, messages: Sequence[ChatMessage], *, generate: bool = True) -> Ids:
        """Return the tokens of a conversation; arguments and errors as `rendered`."""

        def show(told: Sequence[ChatMessage]) -> tuple[str, ...]:
            if has_template(self._tokenizer):
                return (rendered(self._tokenizer, told, generate=generate),)
            return (plain_text(told),)

        (ids,) = self._sides(show, messages)
        return (*self._start(), *ids)

    def parts(self, messages: Sequence[ChatMessage], question: str) -> tuple[Ids, Ids]:
        """Return the tokens before and from the head of a last message; errors as `halves`."""

        def show(told: Sequence[ChatMessage]) -> tuple[str, ...]:
            return halves(self._tokenizer, told[:-1], told[-1].content)

        before, after = self._sides(show, messages, (ChatMessage("user", question),))
        return (*self._start(), *before), after

    def _start(self) -> Ids:
        """Return what stands before plain lines: BOS, where the tokenizer puts one before a text."""
        around = () if has_template(self._tokenizer) else self._encode("", special=True)
        return around[:1] if around[:1] == (self._tokenizer.bos_token_id,) else ()

    def _sides(self, show: Show, *sides: Sequence[ChatMessage]) -> list[Ids]:
        """Return the tokens of each side; `sides` are the messages whose contents stand on it."""
        told = tuple(chain.from_iterable(sides))
        mark = unused("whatissaidgoeshere", [message.content for message in told])
        texts = show(told)
        bare = show([_with(message, _replaced(message.content, mark)) for message in told])
        found = [
            self._read(text, shape, [core for message in side if (core := message.content.strip())], mark)
            for text, shape, side in zip(texts, bare, sides, strict=True)
        ]
        if None not in found:
            return [ids for ids in found if ids is not None]
        mended = show([_with(message, self._broken(message.content)) for message in told])
        return [
            self._checked(text, shape) if ids is None else ids
            for ids, text, shape in zip(found, mended, bare, strict=True)
        ]

    def _read(self, text: str, bare: str, said: Sequence[str], mark: str) -> Ids | None:
        """Return the tokens of a text; None where what is said in it cannot be told from the template.

        Args:
            bare: The text with `mark` in the place of all that is said.
            said: What stands in these places.
        """
        ids = self._encode(text)
        if self._steering(ids) == self._steering(self._encode(bare)):
            return ids
        own = bare.split(mark)
        if len(own) != len(said) + 1 or text != _alternating(own, said):
            return None
        read = [self._encode(own[0])]
        for content, after in zip(said, own[1:], strict=True):
            read += [self.data(content), self._encode(after)]
        return tuple(chain.from_iterable(read))

    def _checked(self, text: str, bare: str) -> Ids:
        ids = self._encode(text)
        found, own = self._steering(ids), self._steering(self._encode(bare))
        if any(found.count(one) > own.count(one) for one in set(found)):
            raise BadInput(
                "The model's chat template makes special tokens of what a message says: take their names out of "
                "the messages, or set another template."
            )
        return ids

    def _broken(self, text: str) -> str:
        """Return the text with a space within every name that steers, for a template that changes contents."""
        return " ".join(self._cut(text, plain=False))

    def _cut(self, text: str, *, plain: bool) -> list[str]:
        """Return the text in parts of which none, encoded by itself, holds a token that steers."""
        found = self._steering(self._encode(text, plain=plain))
        if not found:
            return [text]
        names = [re.escape(name) for name, one in self._steering_names().items() if one in found]
        places = [(met.start() + met.end()) // 2 for met in re.finditer("|".join(names), text)]
        parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        return [piece for part in parts for piece in self._halved(part, plain=plain)]

    def _halved(self, text: str, *, plain: bool) -> list[str]:
        """As `_cut`, where a tokenizer finds a name in what is not written like it; one character becomes `?`."""
        if not self._steering(self._encode(text, plain=plain)):
            return [text]
        if len(text) == 1:
            return ["?"]
        middle = len(text) // 2
        return [*self._halved(text[:middle], plain=plain), *self._halved(text[middle:], plain=plain)]

    def _steering(self, ids: Ids) -> list[int]:
        """Return those of the tokens that steer."""
        steering = set(self._steering_names().values())
        return [one for one in ids if one in steering]

    def _steering_names(self) -> dict[str, int]:
        if self._names_of != self._tokenizer.chat_template:
            self._names, self._names_of = _steering_of(self._tokenizer), self._tokenizer.chat_template
        return self._names


def _steering_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the tokens that steer a model, by name: all special ones, and added ones that its template writes.

    Blanks are none, and neither is the one for unknown characters, unless it has another meaning too.
    """
    template = str(tokenizer.chat_template or "")
    named = {
        str(name): one
        for one, name in zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    }
    for one, token in tokenizer.added_tokens_decoder.items():
        if token.special or token.content in template:
            named[token.content] = one
    if tokenizer.unk_token_id not in {tokenizer.bos_token_id, tokenizer.eos_token_id}:
        named = {name: one for name, one in named.items() if one != tokenizer.unk_token_id}
    return {name: one for name, one in named.items() if name.strip()}


def _replaced(content: str, mark: str) -> str:
    """Return a content with `mark` in its place; blanks around it stay, since templates trim them."""
    core = content.strip()
    if not core:
        return content
    lead, _, tail = content.partition(core)
    return f"{lead}{mark}{tail}"


def _with(message: ChatMessage, content: str) -> ChatMessage:
    return ChatMessage(message.role, content)


def _alternating(own: Sequence[str], said: Sequence[str]) -> str:
    return "".join(chain.from_iterable(zip_longest(own, said, fillvalue="")))
