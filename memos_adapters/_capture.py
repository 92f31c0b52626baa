"""What was said in a framework's conversation, as the engine takes it, and into a cube exactly once.

A framework hands over its whole thread at the end of every turn, again after a retry, a resume, a fork or
a restart: the cube knows what it holds. It knows no framework: adapters make `Message` values by `said`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from memos_adapters._text import TEMPLATE, clean, own_words
from memos_engine import CaptureResult, MemCube, Message, MessageConflict

REMEMBERED_ROLES = frozenset({"user", "assistant"})
"""Roles whose words are memory; tool output and system prompts are not, unless asked for."""
_PART_CHARS = 1_000_000
"""Longer texts are captured in parts; at four bytes each they stay below what the engine takes."""
_NAME_CHARS = 400
_CONTROL = frozenset(map(chr, [*range(32), 127]))


def said(
    role: str,
    text: str,
    *,
    id: str | None = None,
    name: str | None = None,
    at: datetime | None = None,
    template: str = TEMPLATE,
) -> Iterator[Message]:
    """One turn as messages: none when it is blank, several when it is very long.

    Recalled memories are taken out, so that memory is not made of memory, and blanks around the words,
    which one framework keeps and the next one drops. What the engine refuses in a text is mended here,
    since no turn of a conversation may be lost for a stray byte: NULs and lone surrogates become U+FFFD,
    and an id that cannot be taken becomes its hash.
    """
    words = clean(own_words(text, template)).strip()
    for n, start in enumerate(range(0, len(words), _PART_CHARS)):
        part = words[start : start + _PART_CHARS]
        if part.strip():
            mine = id if id is None or not n else f"{id}#{n + 1}"
            yield Message(role, part, _identified(mine), named(name), at)


def captured(cube: MemCube, messages: Sequence[Message], thread: str) -> CaptureResult:
    """Capture all of a thread's messages that the cube does not hold yet; durable when it returns.

    A message that was edited under its old id, as a fork or a correction does, is captured beside the
    first: both were said.

    Raises:
        AccessDenied: the cube's scope may not write to it.
        StoreError: not all of it was stored; handed over again, it is.
    """
    try:
        return cube.capture(messages, thread=thread, whole_thread=True)
    except MessageConflict:
        parts = list(_apart(cube, [message for message in messages if message.id is not None], thread))
        known = (message for part, _ in parts for message in part)
        mine = [message if message.id is None else next(known) for message in messages]
        last = cube.capture(mine, thread=thread, whole_thread=True)
        done = [*(result for _, result in parts), last]
        derived = tuple(item for result in done for item in result.derived)
        return dataclasses.replace(last, derived=derived, new=sum(result.new for result in done))


def _apart(
    cube: MemCube, messages: Sequence[Message], thread: str
) -> Iterator[tuple[Sequence[Message], CaptureResult]]:
    """Capture the messages in order, each under an id of its own whose id was captured with other content.

    They are halved until it is found which: what is known costs a read then, and no embedding.
    """
    try:
        yield messages, cube.capture(messages, thread=thread)
    except MessageConflict:
        if len(messages) == 1:
            (edited,) = messages
            digest = hashlib.sha256(f"{edited.role}\n{edited.text}".encode()).hexdigest()[:16]
            beside = [dataclasses.replace(edited, id=_identified(f"{edited.id}~{digest}"))]
            yield beside, cube.capture(beside, thread=thread)
            return
        half = len(messages) // 2
        yield from _apart(cube, messages[:half], thread)
        yield from _apart(cube, messages[half:], thread)


def _identified(id: str | None) -> str | None:
    """An id that the engine takes, as it is or as its hash. None: there is none, or it is blank."""
    if id is None or not id.strip():
        return None
    if len(id) > _NAME_CHARS or clean(id) != id or not _CONTROL.isdisjoint(id):
        return hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return id


def named(name: str | None) -> str | None:
    """A name that the engine takes, shortened if need be. None: there is none, or it is blank."""
    if name is None:
        return None
    kept = "".join(" " if c in _CONTROL else c for c in clean(name)[:_NAME_CHARS]).strip()
    return kept or None
