"""LangChain's messages as the engine's, and as JSON and back. Shared by what is built on langchain-core.

Only words are remembered: thinking is not, and an image, a sound or a file is a short line that names its
type and the hash of its bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    message_chunk_to_message,
    messages_from_dict,
    messages_to_dict,
)

from memos_adapters._capture import said
from memos_adapters._media import JsonValue, sha256
from memos_adapters._text import TEMPLATE
from memos_engine import BadInput, Message

ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "tool"}
"""LangChain's types of messages -> the roles that everybody else calls them by."""
_MEDIA = frozenset({"image", "audio", "video", "file"})


def to_engine(
    messages: Iterable[BaseMessage], roles: frozenset[str], template: str = TEMPLATE
) -> list[Message]:
    """The turns among `messages` that have one of `roles`, as the engine captures them.

    Summaries that LangChain's own middleware puts in the place of messages are left out: what they tell
    was captured when it was said.
    """
    return [turn for message in messages for turn in _turns(message, roles, template)]


def handed_over(messages: Sequence[BaseMessage], thread: str, *, whole: bool) -> list[BaseMessage]:
    """What a run hands over to be captured: all of its thread, or the turn at hand, each message with an id.

    One without an id is known again by its words and its place among equals of the thread. Without a thread
    it is new each time: two conversations may begin alike.
    """
    seen: Counter[tuple[str, str]] = Counter()
    named = []
    for message in messages:
        if message.id is not None:
            named.append(message)
            continue
        words = (message.type, words_of(message))
        seen[words] += 1
        digest = hashlib.sha256(repr((*words, seen[words])).encode("utf-8", "surrogatepass")).hexdigest()
        named.append(message.model_copy(update={"id": digest if thread else uuid4().hex}))
    return named if whole else named[_turn_start(named) :]


def _turn_start(messages: Sequence[BaseMessage]) -> int:
    """Where the turn at hand begins: with the last words of a user, and those that the same user said just before."""
    question = last_question(messages)
    start = next((n for n, message in enumerate(messages) if message is question), 0)
    while start > 0:
        before = messages[start - 1]
        if not isinstance(before, HumanMessage) or _is_summary(before) or before.name != messages[start].name:
            break
        start -= 1
    return start


def last_question(messages: Sequence[BaseMessage]) -> HumanMessage | None:
    """The last user message that has words or media; None when there is none."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage) and words_of(message) and not _is_summary(message):
            return message
    return None


def whole_message(message: BaseMessage) -> BaseMessage:
    """The message that a stream's chunk became."""
    return message_chunk_to_message(message) if isinstance(message, BaseMessageChunk) else message


def words_of(message: BaseMessage) -> str:
    """What a message says: its text, and a line for each image, sound or file."""
    lines = [str(message.text), *map(_media_line, _media_blocks(message))]
    return "\n".join(line for line in lines if line.strip())


def to_json(message: BaseMessage) -> dict[str, JsonValue]:
    """A message as JSON; what a stream left as a chunk becomes the whole message it is.

    What JSON cannot hold, but models send, is mended, so that no turn is lost for it: halves of a character are
    joined or become U+FFFD, infinite numbers and NaN their text, tuples lists. Other objects stay.

    Raises:
        BadInput: it is nested too deeply.
    """
    try:
        return cast("dict[str, JsonValue]", _mended(messages_to_dict([whole_message(message)])[0]))
    except RecursionError as exc:
        raise BadInput("a message is nested too deeply: hand over one of fewer than 400 levels") from exc


def from_json(value: Mapping[str, JsonValue]) -> AnyMessage:
    """The message that `to_json` wrote."""
    return cast("AnyMessage", messages_from_dict([dict(value)])[0])


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, dict):
        return {_mended(name): _mended(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mended(held) for held in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _turns(message: BaseMessage, roles: frozenset[str], template: str) -> Iterator[Message]:
    whole = whole_message(message)
    role = ROLES.get(whole.type) or str(getattr(whole, "role", whole.type))
    if role in roles and not _is_summary(message):
        yield from said(role, words_of(message), id=message.id, name=message.name, template=template)


def _is_summary(message: BaseMessage) -> bool:
    return message.additional_kwargs.get("lc_source") == "summarization"


def _media_blocks(message: BaseMessage) -> list[dict[str, Any]]:
    """The blocks of LangChain's standard content that are no text."""
    if isinstance(message.content, str):
        return []
    blocks = cast("list[dict[str, Any]]", message.content_blocks)
    return [block for block in blocks if block.get("type") in _MEDIA]


def _media_line(block: Mapping[str, Any]) -> str:
    """`[image image/png sha256:...]`: enough to know it again, without its bytes."""
    digest = sha256(str(block["base64"])) if block.get("base64") else None
    where = f"sha256:{digest}" if digest else block.get("url") or block.get("file_id") or ""
    named = [block["type"], block.get("mime_type"), where]
    return f"[{' '.join(str(part) for part in named if part)}]"
