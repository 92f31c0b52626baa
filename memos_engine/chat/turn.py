"""One turn of a conversation: recall, the prompt, the answer, and what is kept of both.

Here is the order of effects; what stands in the prompt is decided in `parts.py`, how it is read by the
speaker. Nothing is kept before something was said, and no lock is held while the model speaks.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

from memos_engine.chat.conversation import Conversation
from memos_engine.chat.parts import Held, chosen_parts, usable
from memos_engine.chat.prompt import Part, Prompt, Said, Saying, Speaker
from memos_engine.errors import StoreError
from memos_engine.intake import capture
from memos_engine.items import CaptureResult, ChatAnswer, Filter, MemoryItem, Message, Right
from memos_engine.ports import Clock
from memos_engine.recall.passages import passage_of
from memos_engine.retrieval import Asked, recall
from memos_engine.shelf import Actor, TextShelf

if TYPE_CHECKING:
    from memos_engine.store.rows import View

__all__ = ["Place", "Recollection", "Request", "Turn", "recollected"]

_log = logging.getLogger(__name__)

UsesOf = Callable[[Sequence[str], Sequence[str]], None]
"""Counts a use of blocks and of items, by id."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a turn, checked."""

    conversation: Conversation
    thread: str
    budget_tokens: int
    """For memories; 0 means none."""
    min_score: float
    wanted: Filter
    captures: bool
    how: Saying


@dataclass(frozen=True, slots=True)
class Place:
    """A cube as its handle's principal may use it, looked up anew at each use."""

    shelf: Callable[[], TextShelf]
    actor: Callable[[Right], Actor]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Recollection:
    """A prompt, and what of it is remembered."""

    prompt: Prompt
    hits: tuple[str, ...] = ()
    """Ids of the items in it that recall itself chose."""
    score: float = 0.0

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of all remembered items in it, in its order."""
        return tuple(item for part in self.prompt.memories for item in part.items)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Ids of the blocks in it."""
        return tuple(part.block for part in self.prompt.memories if part.block is not None)


def recollected(shelf: TextShelf, actor: Actor, request: Request, speaker: Speaker) -> Recollection:
    """Recall what the conversation's last message needs, and put it at its head.

    Raises:
        BadInput: the conversation alone is more than the model reads.
        ModelUnavailable, ModelRefused, ModelFailed: the reranker's or the rewriter's, as in `recall`.
    """
    talk = request.conversation
    room = speaker.room(talk.before, talk.question, request.how.max_new_tokens)
    budget = request.budget_tokens if room is None else min(request.budget_tokens, room)
    if budget < 1:
        return Recollection(Prompt(talk.before, (), talk.question))
    count = cache(speaker.count_tokens)
    (context,) = recall(
        shelf, [talk.query], actor, Asked(budget, count, request.min_score), wanted=request.wanted
    )
    hits = [hit.item for hit in context.hits if not _in_conversation(hit.item, request)]
    held: list[Held] = []
    if request.how.policy != "full":
        held = _held(shelf, actor.view, speaker, hits, restricted=request.wanted != Filter())

    def choose(held: Sequence[Held]) -> tuple[Part, ...]:
        return chosen_parts(hits, held, budget, count, room_tokens=room, apart=speaker.apart)

    parts = choose(held)
    chosen = {part.block for part in parts}
    asked = [each.info for each in held if each.info.id in chosen]
    ready = speaker.fetch(asked) if asked else ()
    if len(ready) < len(asked):  # those that are lost, and those that did not fit, are read as text
        parts = choose([each for each in held if each.info.id in ready])
    prompt = Prompt(talk.before, parts, talk.question)
    there = {item for part in parts for item in part.items}
    return Recollection(prompt, tuple(item.id for item in hits if item.id in there), context.score)


def _in_conversation(item: MemoryItem, request: Request) -> bool:
    """Tell whether it stands in the conversation itself."""
    told = (item.role or "", item.text) in request.conversation.said
    return told and item.kind == "episode" and item.thread == request.thread


def _held(
    shelf: TextShelf, view: View, speaker: Speaker, hits: Sequence[MemoryItem], *, restricted: bool
) -> list[Held]:
    """Blocks that hold hits, with their passages; one of which the viewer may not see all is none."""
    blocks = usable(speaker.blocks([item.id for item in hits]), hits, restricted=restricted)
    if not blocks:
        return []
    with shelf.file.read() as reader:
        refs = {item: reader.ref(item, view) for block in blocks for item in block.items}
        found = reader.items([ref for ref in refs.values() if ref is not None], view)
    items = {item.id: item for item in found.values()}
    return [
        Held(block, passage_of([items[item] for item in block.items]))
        for block in blocks
        if all(item in items for item in block.items)
    ]


class Turn:
    """One turn: `pieces` to go through, then `end`. Used by one thread at a time."""

    def __init__(self, place: Place, request: Request, speaker: Callable[[], Speaker], uses: UsesOf) -> None:
        """Prepare; nothing is done before the first piece is asked for.

        Args:
            place: The cube.
            request: What is asked.
            speaker: Makes the one who speaks.
            uses: Told what was used, once the turn is over.
        """
        self._place = place
        self._request = request
        self._speaker = speaker
        self._uses = uses
        self._began_at: datetime | None = None
        self._before_say_s = 0.0
        self.recollection = Recollection(
            Prompt(request.conversation.before, (), request.conversation.question)
        )
        """What stands in the prompt, once the first piece was asked for."""

    def pieces(self) -> Generator[str, None, Said]:
        """Recall and speak: yield the answer, return what it took. Captures nothing.

        Raises:
            MemosError: as `TalkingCube.chat_stream` tells.
        """
        began = perf_counter()
        self._began_at = self._place.clock()
        speaker = self._speaker()
        self.recollection = recollected(
            self._place.shelf(), self._place.actor("read"), self._request, speaker
        )
        self._before_say_s = perf_counter() - began
        said = yield from speaker.say(self.recollection.prompt, self._request.how)
        if said.seconds_to_first_token is None:
            return said
        return dataclasses.replace(
            said, seconds_to_first_token=said.seconds_to_first_token + self._before_say_s
        )

    def end(self, said: Said) -> ChatAnswer:
        """Capture the turn, count what was used, and return the whole answer.

        Raises:
            AccessDenied: the right to write was taken back meanwhile.
            StoreError: nothing was captured.
        """
        captured = self._captured(said) if self._request.captures else None
        try:
            self._uses(self.recollection.blocks, self.recollection.hits)
        except StoreError as exc:  # the turn is kept, and a count is not worth an answer
            _log.warning("uses were not counted", extra={"action": "chat", "error": str(exc)})
        return ChatAnswer(
            text=said.text,
            finish=said.finish,
            memories=self.recollection.items,
            captured=captured,
            prompt_tokens=said.prompt_tokens,
            cached_tokens=said.cached_tokens,
            completion_tokens=said.completion_tokens,
            method=said.method,
            error_class=said.error_class,
            reason=said.reason,
            seconds_to_first_token=said.seconds_to_first_token,
            score=self.recollection.score,
        )

    def _captured(self, said: Said) -> CaptureResult:
        """Capture what was said on both sides since the last answer, in one call."""
        shelf, actor = self._place.shelf(), self._place.actor("write")
        assert self._began_at is not None, "ended after it began"
        step = timedelta(microseconds=1)  # keeps the order of what was said at one moment
        at = self._began_at
        told: list[Message] = []
        for message in self._request.conversation.new:
            told.append(message if message.at else dataclasses.replace(message, at=at))
            at += step
        answer = _storable(said.text)
        if answer.strip():
            told.append(Message("assistant", answer, at=max(at, self._place.clock())))
        return capture(
            shelf, told, actor, thread=self._request.thread, idempotency_key=None, whole_thread=False
        )


def _storable(text: str) -> str:
    """The text with U+FFFD for NULs and lone surrogates, which no store takes."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
