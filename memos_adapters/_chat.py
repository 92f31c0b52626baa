"""One answer of a model that reads a user's memory: said piece by piece, and captured once it is said.

An adapter says what is asked of whom; this steps through the answer, in one thread, in several or from an
event loop, and hands what was said to the cube exactly once. It knows no framework, and no model but by what
it can be asked for. A model that is named is loaded when it is first needed, once for all who name it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from memos_adapters._capture import captured, named, said
from memos_adapters._text import TEMPLATE, clean
from memos_engine import BadInput, ChatAnswer, ChatStream, MemCube, Message

if TYPE_CHECKING:
    from memos_engine import ChatModel, LocalModel

SETTINGS = {
    "budget_s": "budget_s",
    "budget_tokens": "budget_tokens",
    "max_tokens": "max_new_tokens",
    "min_score": "min_score",
    "policy": "policy",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
"""Names of what an adapter and its calls may set -> those of `MemCube.chat`."""
IDENTITY = frozenset({"user_id", "agent_id", "session_id"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a model."""

    cube: MemCube
    model: LocalModel | ChatModel
    messages: Sequence[Message]
    """The prompt, oldest first."""
    heard: Sequence[Message] | None
    """What of it is captured with the answer. None: nothing is, nor the answer."""
    answer_id: str | None
    """The framework's id of the answer."""
    thread: str
    settings: Mapping[str, Any]
    """As arguments of `MemCube.chat`."""
    template: str = TEMPLATE
    spoken: Callable[[str], str] = str
    """What of an answer was said to somebody."""


class Answering:
    """An answer as it is said: iterate over its pieces, in whatever threads; begun by the first step.

    What was said is captured, durably, before the iteration ends. An answer that fails captures nothing.
    """

    def __init__(self, ask: Callable[[], Asked]) -> None:
        """Answer what `ask` returns; it is called in the first step, where blocking is fine."""
        self._ask = ask
        self._lock = threading.Lock()  # a step that nobody waits for any more may still run
        self._asked: Asked | None = None
        self._stream: ChatStream | None = None
        self._over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        with self._lock:
            if self._over:
                raise StopIteration
            try:
                piece = next(self._begun(), None)
            except BaseException:
                self._over = True
                raise
            if piece is not None:
                return piece
            self._over = True
            self._keep()
            raise StopIteration

    @property
    def answer(self) -> ChatAnswer:
        """All that is known of the answer, once it is over."""
        assert self._stream is not None, "the iteration has ended"
        return self._stream.answer

    def close(self, *, keep: bool = True) -> None:
        """End it here, if it is not over; waits for a step that runs.

        Args:
            keep: Capture what was said so far, if anything was: somebody has heard it.
        """
        with self._lock:
            if self._over:
                return
            self._over = True
            if self._stream is None:
                return
            self._stream.close()
            if keep and self._stream.answer.text:
                self._keep()

    def whole(self) -> ChatAnswer:
        """Step through all of it."""
        for _ in self:
            pass
        return self.answer

    async def awhole(self) -> ChatAnswer:
        """As `whole`, in threads; cancelled, it stops at the next token and captures nothing."""
        async with aclosing(self.steps(keep=False)) as steps:
            async for _ in steps:
                pass
        return self.answer

    def pieces(self) -> Generator[str]:
        """The pieces; left early, what was said so far is captured."""
        try:
            yield from self
        finally:
            self.close()

    async def steps(self, *, keep: bool = True) -> AsyncGenerator[str]:
        """The pieces, each made in a thread, so that no thread is held for a whole answer.

        Args:
            keep: Left early or cancelled, capture what was said so far.
        """
        try:
            while (piece := await asyncio.to_thread(next, self, None)) is not None:
                yield piece
        finally:
            await asyncio.to_thread(self.close, keep=keep)

    def _begun(self) -> ChatStream:
        if self._stream is None:
            asked = self._asked = self._ask()
            if asked.heard is not None:
                asked.cube.capture(())  # who may not write is told so before the model is at work
            self._stream = asked.cube.chat_stream(
                asked.model, asked.messages, thread=asked.thread, capture=False, **asked.settings
            )
        return self._stream

    def _keep(self) -> None:
        asked = self._asked
        assert asked is not None, "begun"
        if asked.heard is None:
            return
        words = asked.spoken(self.answer.text)
        answer = said("assistant", words, id=asked.answer_id, template=asked.template)
        if messages := [*asked.heard, *answer]:
            captured(asked.cube, messages, asked.thread)


def said_in_prompt(role: str, text: str, name: str | None = None) -> list[Message]:
    """A turn as it stands in a prompt: its words as they are captured, so that they are known again; not when blank."""
    words = clean(text).strip()
    return [Message(role, words, name=named(name))] if words else []


def check_fields(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Refuse settings that are none: a misspelt one would be passed over in silence.

    Raises:
        BadInput: one is unknown; the nearest that is known is told.
    """
    for name in sorted(set(given) - set(known)):
        near = get_close_matches(name, known, n=1)
        hint = f", perhaps you mean {near[0]!r}" if near else ""
        raise BadInput(f"unknown argument {name!r} of {what}{hint}: its documentation names all")


def settings_of(fields: object, asked: Mapping[str, Any], others: frozenset[str]) -> dict[str, Any]:
    """What a call sets, else the adapter, as arguments of `MemCube.chat`; what nobody sets is left to it.

    Args:
        fields: The adapter.
        asked: Arguments of the call.
        others: What else a call may say.

    Raises:
        BadInput: the call says what is no setting.
    """
    known = SETTINGS.keys() | IDENTITY | others
    if unknown := sorted(asked.keys() - known):
        shown = ", ".join(sorted(name for name in known if not name.startswith("_")))
        raise BadInput(f"unknown argument {unknown[0]!r}: a call takes {shown}")
    found = {}
    for name, theirs in SETTINGS.items():
        value = asked.get(name)
        if value is None:
            value = getattr(fields, name)
        if value is not None:
            found[theirs] = value
    return found


class NamedModel:
    """A local model by its folder or name: loaded when it is first asked for, and kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._model: LocalModel | None = None

    @property
    def loaded(self) -> LocalModel | None:
        """The model, if it was asked for before."""
        return self._model

    def load(self) -> LocalModel:
        """The model; the first call takes as long as reading its files does.

        Raises:
            BadInput: it is no causal language model.
            ModelUnavailable: it cannot be had.
        """
        with self._lock:
            if self._model is None:
                from memos_engine import LocalModel  # noqa: PLC0415 -- loads torch, which not every model needs

                self._model = LocalModel(self.name)
            return self._model


_NAMED: WeakValueDictionary[str, NamedModel] = WeakValueDictionary()
_NAMED_LOCK = threading.Lock()


def checked_model(model: object) -> NamedModel | LocalModel | ChatModel:
    """A model that can be asked, or the name of one; the same name gives the same object while anyone holds it.

    Raises:
        BadInput: it is neither.
    """
    if isinstance(model, NamedModel):
        return model
    if isinstance(model, (str, Path)):
        with _NAMED_LOCK:
            return _NAMED.setdefault(str(model), NamedModel(str(model)))
    if not callable(getattr(model, "complete", None)):
        raise BadInput(
            f"model is a {type(model).__name__}: hand over a LocalModel, its folder or name, or a chat model of "
            "memos_engine such as HttpChatModel"
        )
    return model  # type: ignore[return-value] # -- checked by what it can do


def name_of(model: object) -> str:
    """What a model is called in traces."""
    network = getattr(model, "network", None)
    named = [
        getattr(model, "name", None),
        getattr(model, "model", None),
        getattr(network, "name_or_path", None),
    ]
    return next(
        (str(name) for name in named if isinstance(name, str) and name), type(network or model).__name__
    )


def told_of(answer: ChatAnswer) -> dict[str, Any]:
    """How an answer came about, as JSON: which memories were read, and how."""
    return {
        "memories": list(answer.memories),
        "score": answer.score,
        "method": answer.method,
        "error_class": answer.error_class,
        "reason": answer.reason,
        "cached_tokens": answer.cached_tokens,
        "seconds_to_first_token": answer.seconds_to_first_token,
    }
