"""The messages of any agent loop: the engine's own, the dicts of chat APIs, or objects with role and content.

Pure. Only words are remembered: thinking and calls of tools are not, an image, a sound or a file is a short
line that names its type and the hash of its bytes. What is handed back is of the kind that came in.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from uuid import uuid4

from memos_adapters._capture import said
from memos_adapters._media import sha256
from memos_adapters._text import TEMPLATE, own_words, rendered
from memos_engine import BadInput, BadTime, Context, Message

M = TypeVar("M")

ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "developer": "system", "function": "tool"}
"""Other names of roles -> the ones that most APIs use."""
_ROLE_TYPES = frozenset({*ROLES, "user", "assistant", "system", "tool"})
"""Types of messages that say who speaks, where there is no role."""
_WORDS = frozenset({"", "text", "input_text", "output_text", "refusal"})
"""Types of parts that are words; one API's have none."""
_MEDIA = {"image": "image", "audio": "audio", "video": "video", "file": "file", "document": "file"}
"""What the type of a part of media holds -> what it is called in memory."""
_NO_BYTES = hashlib.sha256(b"").hexdigest()
_SHOWN = 500
"""Characters of an address at most: a signed one may be as long as a page."""


def to_engine(messages: Iterable[object], roles: frozenset[str], template: str = TEMPLATE) -> list[Message]:
    """The turns among `messages` that have one of `roles`, as the engine captures them.

    Raises:
        BadInput: one is no message.
        BadTime: one is of a naive time.
    """
    _check(messages)
    return [turn for message in messages for turn in _turns(message, roles, template)]


def identified(messages: Sequence[Message], *, whole_thread: bool) -> list[Message]:
    """The messages, each with an id, so that what waits or is handed over again is captured once.

    Args:
        messages: As `to_engine` made them.
        whole_thread: They are all of a conversation, so that one without an id is known again by role, text,
            time and place among equals. Else it is new.
    """
    seen: Counter[str] = Counter()
    named = []
    for message in messages:
        if message.id is not None:
            named.append(message)
        elif not whole_thread:
            named.append(dataclasses.replace(message, id=uuid4().hex))
        else:
            at = None if message.at is None else message.at.timestamp()
            words = json.dumps([message.role, message.text, at])
            seen[words] += 1
            digest = hashlib.sha256(words.encode()).hexdigest()[:32]
            named.append(dataclasses.replace(message, id=f"{digest}:{seen[words]}"))
    return named


def at_hand(messages: Sequence[M]) -> Sequence[M]:
    """The turn at hand: the last user message and what follows it."""
    place = _asking(messages)
    return messages if place is None else messages[place:]


def last_question(messages: Sequence[object], template: str = TEMPLATE) -> str:
    """The words of the last user message that has any, less memories in it; empty when there is none.

    Raises:
        BadInput: one of the messages is none.
    """
    place = _asking(messages)
    return "" if place is None else own_words(words_of(messages[place]), template)


def with_memories(messages: Sequence[M], memories: Context | str, template: str = TEMPLATE) -> list[M]:
    """A copy of the messages with recalled memories right before the words of the last user message.

    Args:
        messages: They stay as they are.
        memories: What was recalled; nothing is put in when it is empty.
        template: What stands around it, with `{memories}` for its text.

    Raises:
        BadInput: one of the messages is none, or the one in question cannot be copied.
    """
    block = rendered(memories.text if isinstance(memories, Context) else memories, template)
    place = _asking(messages)
    shown = list(messages)
    if block and place is not None:
        shown[place] = _told(shown[place], block)
    return shown


def words_of(message: object) -> str:
    """What a message says: its text, and a line for each image, sound or file."""
    if isinstance(message, Message):
        return message.text
    lines = _lines(_field(message, _content_name(message)))
    return "\n".join(line for line in lines if line.strip())


def is_message(value: object) -> bool:
    """Whether a value has what makes a message: a role, or the type of an item that needs none."""
    return isinstance(value, Message) or any(isinstance(_field(value, n), str) for n in ("role", "type"))


def _turns(message: object, roles: frozenset[str], template: str) -> Iterator[Message]:
    role = _role(message)
    named, name, at = _field(message, "id"), _field(message, "name"), None
    if isinstance(message, Message):
        at = message.at
        if at is not None and at.utcoffset() is None:
            raise BadTime(f"a message is of {at.isoformat()}, which has no time zone: say which")
    if role in roles:
        id_ = None if named is None else str(named)
        speaker = name if isinstance(name, str) else None
        yield from said(role, words_of(message), id=id_, name=speaker, at=at, template=template)
    if "tool" in roles and role != "tool":
        yield from _tool_results(message, template)


def _tool_results(message: object, template: str) -> Iterator[Message]:
    """What tools answered, where an API hands it over inside of a user's message."""
    parts = None if isinstance(message, Message) else _field(message, "content")
    for part in parts if isinstance(parts, (list, tuple)) else ():
        if _field(part, "type") == "tool_result":
            called = _field(part, "tool_use_id")
            text = "\n".join(_lines(_field(part, "content")))
            yield from said("tool", text, id=None if called is None else str(called), template=template)


def _asking(messages: Sequence[object]) -> int | None:
    """Place of the last user message that has words. None: there is none."""
    _check(messages)
    for place in range(len(messages) - 1, -1, -1):
        if _role(messages[place]) == "user" and words_of(messages[place]).strip():
            return place
    return None


def _check(messages: Iterable[object]) -> None:
    if isinstance(messages, (str, bytes, Mapping, Message)) or not isinstance(messages, Sequence):
        raise BadInput(
            f"messages is a {type(messages).__name__}: hand over a list of them, as in "
            '[{"role": "user", "content": text}]'
        )


def _role(message: object) -> str:
    """Who speaks; empty for an item of a loop that nobody said, such as the call of a tool."""
    role, kind = _field(message, "role"), _field(message, "type")
    if role is None and isinstance(kind, str) and kind in _ROLE_TYPES:
        role = kind
    if isinstance(role, str):
        return ROLES.get(role, str.__str__(role))
    if role is None and isinstance(kind, str):
        return "tool" if kind == "function_call_output" else ""
    raise BadInput(
        f"a {type(message).__name__} is no message: it needs a role and content, as in "
        '{"role": "user", "content": text}'
    )


def _told(message: M, block: str) -> M:
    """The message with a block of memories before its words."""
    if isinstance(message, Message):
        return cast("M", dataclasses.replace(message, text=_joined(block, message.text)))
    name = _content_name(message)
    content = _field(message, name)
    if isinstance(content, str):
        told: object = _joined(block, content)
    else:
        told = _told_in_parts(content if isinstance(content, (list, tuple)) else [content], block)
    if isinstance(message, Mapping):
        return cast("M", {**message, name: told})
    try:
        twin = copy.copy(message)
        setattr(twin, name, told)
    except (AttributeError, TypeError, ValueError) as exc:
        raise BadInput(
            f"nothing can be put into a {type(message).__name__} ({exc}): hand the user's words over as a dict"
        ) from exc
    return twin


def _told_in_parts(parts: Sequence[Any], block: str) -> list[Any]:
    """The parts with the block at the head of the first that has text, else in a part of its own."""
    told = list(parts)
    for place, part in enumerate(told):
        if isinstance(part, str):
            told[place] = _joined(block, part)
            return told
        text = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str) and _kind(part) in _WORDS:
            told[place] = {**part, "text": _joined(block, text)}
            return told
    kinds = [_kind(part) for part in told]
    kind = "input_text" if any(each.startswith("input_") for each in kinds) else "text"
    return [{"type": kind, "text": block} if any(kinds) else {"text": block}, *told]


def _joined(block: str, words: str) -> str:
    return f"{block}\n\n{words}"


def _content_name(message: object) -> str:
    """The field that holds what is said: `content`, or what another API calls it."""
    return next(
        (name for name in ("content", "parts", "output") if _field(message, name) is not None), "content"
    )


def _lines(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, tuple)):
        for part in content:
            yield from _part(part)
    elif content is not None:
        yield from _part(content)


def _part(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
        return
    kind = _kind(part)
    if kind in _WORDS:
        yield from (text for text in (_field(part, "text"), _field(part, "refusal")) if isinstance(text, str))
    elif called := next((name for sign, name in _MEDIA.items() if sign in kind), None):
        yield _media_line(called, part)


def _media_line(called: str, part: object) -> str:
    """`[image image/png sha256:...]`: enough to know it again, without its bytes."""
    found = dict(_strings(part))
    url = next((text for text in found.values() if text.startswith("data:")), "")
    kind = (
        found.get("mime_type")
        or found.get("media_type")
        or found.get("format")
        or url[5:].partition(",")[0].partition(";")[0]
    )
    digest = sha256(url or found.get("data") or found.get("file_data") or "")
    named = [found.get(name) for name in ("url", "image_url", "file_id", "filename")]
    known = (name for name in named if name and not name.startswith("data:"))
    where = f"sha256:{digest}" if digest not in (None, _NO_BYTES) else next(known, "")
    return f"[{' '.join(each for each in (called, kind[:_SHOWN], where[:_SHOWN]) if each)}]"


def _strings(value: object) -> Iterator[tuple[str, str]]:
    """Every string below a part, with the name of its field."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, str):
                yield str(name), inner
            else:
                yield from _strings(inner)


def _kind(part: object) -> str:
    kind = _field(part, "type")
    return kind if isinstance(kind, str) else ""


def _field(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
