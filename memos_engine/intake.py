"""Capture on a shelf: what was handed over is settled, read, embedded, planned, and written in one commit.

The decisions are `capture/reconcile.py`'s; here is the order of effects. All that needs no lock (the
reader, the model) runs before the transaction, which settles anew what other writers did meanwhile.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from memos_engine.capture.reconcile import (
    ReadTurn,
    Slot,
    digest,
    mentioned,
    message_keys,
    plan,
    settle,
    speaker_of,
    texts_of,
)
from memos_engine.errors import IdempotencyConflict, MessageConflict, StoreDamaged
from memos_engine.items import CaptureResult, Message
from memos_engine.ports import ThreadEnd
from memos_engine.shelf import Actor, TextShelf
from memos_engine.store.reading import CubeReader
from memos_engine.store.rows import View
from memos_engine.store.writing import CubeWriter, turn_hash

if TYPE_CHECKING:
    from memos_engine.capture.reader import Reading


def capture(
    shelf: TextShelf,
    messages: Sequence[Message],
    actor: Actor,
    *,
    thread: str,
    idempotency_key: str | None,
    whole_thread: bool,
) -> CaptureResult:
    """Make every message an episode, with what the reader drafts from it, in one durable commit."""
    keys = message_keys(messages, whole_thread=whole_thread)
    call = None
    if idempotency_key is not None:  # a key is its principal's own: another's call of that name is another
        call = (f"{actor.principal}\x1f{idempotency_key}", digest(messages, thread))
    places = set(range(len(messages)))
    if call is not None or len(messages) != 1:  # what is known needs no model; one message is seldom known
        with shelf.file.read() as reader:
            earlier = _earlier(reader, call)
            if earlier is not None:
                return earlier
            slots = _settled(reader, thread, messages, keys, actor.view)
            places = {slot.new for slot in slots if slot.new is not None}
            if call is None and not places:
                return _capture_result(slots, {}, (), reader.revision())
    now = shelf.clock()
    turns = _read(shelf, messages, keys, places, now)

    ends: list[ThreadEnd] = []

    def work(writer: CubeWriter) -> CaptureResult:
        earlier = _earlier(writer, call)
        if earlier is not None:
            return earlier
        slots = _settled(writer, thread, messages, keys, actor.view)  # others may have been faster
        places = sorted({slot.new for slot in slots if slot.new is not None})
        fresh = [turns[place] for place in places]
        made = plan(
            fresh, cube=shelf.file.cube, author=actor.principal, scope=actor.scope, thread=thread, now=now,
            last=shelf.end_of(thread, writer),
            concepts=writer.concepts({name for turn in fresh for name in mentioned(turn)}),
        )  # fmt: skip
        shelf.add_entries(writer, made.entries)
        writer.link(made.edges)
        written = dict(zip(places, made.episodes, strict=True))
        result = _capture_result(slots, written, made.derived, writer.revision())
        if made.last is not None:
            ends.append(made.last)
        if call is not None:
            writer.remember_call(*call, json.dumps(dataclasses.asdict(result)))
        return result

    result = shelf.file.write(
        work,
        principal=actor.principal,
        action="capture",
        detail=lambda result: {"new": result.new, "derived": len(result.derived)},
    )
    for end in ends:  # kept once it is durable
        shelf.keep_end(thread, result.revision, end)
    return result


def _read(
    shelf: TextShelf, messages: Sequence[Message], keys: Sequence[str | None], places: set[int], now: datetime
) -> dict[int, ReadTurn]:
    """The messages at `places`, dated, read and with their vectors: all that needs no lock."""
    from memos_engine.capture.reader import MemReader, Turn  # noqa: PLC0415 -- its patterns take 0.1 s to compile

    reader = MemReader()
    speakers = frozenset(message.name for message in messages if message.name)
    readings: dict[int, tuple[Message, Reading]] = {}
    for place in sorted(places):
        message = messages[place]
        if message.at is None:
            at = now + timedelta(microseconds=place)  # order within a call is kept
            message = dataclasses.replace(message, at=at)
        assert message.at is not None, "it was filled in"
        turn = Turn(message.text, speaker_of(message), message.role, message.at, speakers)
        readings[place] = (message, reader.read(turn))
    texts = [text for message, reading in readings.values() for text in texts_of(message, reading)]
    rows = iter(shelf.embed(texts))
    return {
        place: ReadTurn(message, keys[place], reading, next(rows), tuple(islice(rows, len(reading.drafts))))
        for place, (message, reading) in readings.items()
    }


def _earlier(reader: CubeReader, call: tuple[str, bytes] | None) -> CaptureResult | None:
    """The result of the same call made before.

    Raises:
        IdempotencyConflict: the key was used for other messages.
    """
    stored = None if call is None else reader.call(call[0])
    if call is None or stored is None:
        return None
    if stored[0] != call[1]:
        raise IdempotencyConflict(
            f"idempotency key {call[0].split(chr(31))[-1]!r} was used for other messages: use a new key for a new call"
        )
    try:
        fields = json.loads(stored[1])
        return CaptureResult(
            tuple(fields["episodes"]),
            tuple(fields["derived"]),
            fields["new"],
            tuple(fields["forgotten"]),
            fields["revision"],
        )
    except (ValueError, TypeError, KeyError) as exc:
        raise StoreDamaged("the stored result of this idempotency key is malformed: use another key") from exc


def _settled(
    reader: CubeReader, thread: str, messages: Sequence[Message], keys: Sequence[str | None], view: View
) -> list[Slot]:
    named = [key for key in keys if key is not None]
    stored = reader.turns(thread, named)
    for message, key in zip(messages, keys, strict=True):
        if key in stored and reader.ref(stored[key].id, view) is None:  # told alike, whatever it holds
            raise MessageConflict(
                f"message id {message.id!r} of thread {thread!r} is taken: give it another id or thread"
            )
    hashes = {turn_hash(thread, key): key for key in named}
    erased = {hashes[found] for found in reader.erased_turns(list(hashes))}
    return settle(messages, keys, stored, erased, thread)


def _capture_result(
    slots: Sequence[Slot], written: Mapping[int, str], derived: tuple[str, ...], revision: int
) -> CaptureResult:
    ids = [slot.stored or (None if slot.new is None else written[slot.new]) for slot in slots]
    return CaptureResult(
        tuple(item_id for item_id in ids if item_id is not None),
        derived,
        len(written),
        tuple(slot.erased for slot in slots if slot.erased is not None),
        revision,
    )
