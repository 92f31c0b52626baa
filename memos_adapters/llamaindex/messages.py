"""LlamaIndex's chat messages as the engine's, and as JSON and back. Knows no memory and no store.

Only words are remembered: thinking, tool calls and cited passages are not, and an image, a sound, a film or
a file is a short line that names its type and the hash of its bytes. As JSON a message is whole: every
block, with its bytes as base64, which a `ChatLog` keeps apart by their hash.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import IOBase
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

from llama_index.core.base.llms.types import ChatMessage, ContentBlock, MessageRole, TextBlock
from llama_index.core.utils import resolve_binary
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from memos_adapters._capture import said
from memos_adapters._media import JsonValue, sha256
from memos_adapters._text import TEMPLATE, own_words
from memos_engine import BadInput, Message

Block: TypeAlias = Any
"""A content block; which there are differs by version of LlamaIndex."""

ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
"""LlamaIndex's roles -> those that everybody else speaks of."""
_BYTES_OF = {"image": "image", "audio": "audio", "video": "video", "document": "data"}
"""Block type -> the field that holds its bytes."""
_TYPE_OF = {
    "image": "image_mimetype",
    "audio": "format",
    "video": "video_mimetype",
    "document": "document_mimetype",
}
_BLOCKS: dict[str, type[BaseModel]] = {
    cls.model_fields["block_type"].default: cls for cls in get_args(get_args(ContentBlock)[0])
}
_NESTED = frozenset({"content", "cited_content"})
"""Fields that hold blocks."""
_BYTES, _AS_IS = "$bytes", "$as_is"
_THOUGHT, _ANSWER, _OBSERVATION = "Thought: ", "\nAnswer: ", "Observation: "


def to_engine(
    message: ChatMessage, roles: frozenset[str], *, id: str | None = None, template: str = TEMPLATE
) -> list[Message]:
    """A message as the engine captures it; nothing when its role is not among `roles` or it has no words."""
    role = ROLES[message.role]
    if role not in roles:
        return []
    words = words_of(message)
    return list(said(role, answer_of(words) if role == "assistant" else words, id=id, template=template))


def words_of(message: ChatMessage) -> str:
    """What a message says: its texts, and a line for each image, sound, film or file."""
    return "\n".join(_lines(message.blocks))


def answer_of(text: str) -> str:
    """What a ReAct agent answered, of the reasoning that it puts into memory with it."""
    if not text.startswith((_THOUGHT, _OBSERVATION)):
        return text
    _, _, last = text.rpartition(_THOUGHT)
    _, found, answer = last.partition(_ANSWER)
    return answer if found else text


def is_step(text: str) -> bool:
    """Whether a ReAct agent's model reasons here on the way to its answer, and speaks to nobody."""
    return text.startswith(_THOUGHT) and answer_of(text) == text and "\nAction: " in text


def is_observation(message: ChatMessage) -> bool:
    """Whether a ReAct agent tells its model here, in the user's place, what a tool returned."""
    return message.role == MessageRole.USER and (message.content or "").startswith(_OBSERVATION)


def last_from_user(messages: Sequence[ChatMessage]) -> int | None:
    """Index of the last user message that has words or media; None when there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == MessageRole.USER and words_of(messages[index]).strip():
            return index
    return None


def own_part(message: ChatMessage, template: str = TEMPLATE) -> ChatMessage | None:
    """The message without memories that were put into it; None when it is nothing else.

    What a tool found is no such thing, nor what a model said of it: these stay as they are.
    """
    if ROLES[message.role] not in ("user", "system"):
        return message
    kept: list[Block] = []
    changed = False
    for block in message.blocks:
        mine = own_words(block.text, template) if isinstance(block, TextBlock) else None
        if mine is None or mine == cast("TextBlock", block).text:
            kept.append(block)
            continue
        changed = True
        if mine.strip():
            kept.append(TextBlock(text=mine))
    if not changed:
        return message
    return message.model_copy(update={"blocks": kept}) if kept else None


def to_json(message: ChatMessage) -> dict[str, JsonValue]:
    """A message as JSON.

    Of its arguments, what JSON does not know becomes what is nearest: a model its fields, a tuple a list, any
    other object its text. Bytes stay bytes.
    """
    kwargs = dict(message.additional_kwargs)
    if kwargs.get("images"):  # LlamaIndex made blocks of them, and would make these anew
        del kwargs["images"]
    return {
        "role": message.role.value,
        "additional_kwargs": _plain(kwargs),
        "blocks": [_block_json(block) for block in message.blocks],
    }


def from_json(value: Mapping[str, JsonValue]) -> ChatMessage:
    """A new message from what `to_json` wrote; what else is in `value` is passed over.

    Raises:
        BadInput: it is no message of LlamaIndex's, or of a version that knows other blocks.
    """
    try:
        stored: Any = value
        return ChatMessage(
            role=MessageRole(stored["role"]),
            additional_kwargs=_whole(stored["additional_kwargs"]),
            blocks=[_block(block) for block in stored["blocks"]],
        )
    except (KeyError, TypeError, ValidationError, ValueError) as exc:
        raise BadInput(
            f"what is stored is no chat message that this LlamaIndex reads ({type(exc).__name__}: {exc}): was the "
            "session written by another framework or a newer version? Choose another session_id, or update"
        ) from exc


def _lines(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if block.block_type == "text":
            yield block.text
        elif block.block_type in _BYTES_OF:
            yield _media_line(block)
        elif block.block_type == "citable":
            yield f"[{_named('citable', block.title, block.source)}]"
            yield from _lines(block.content)


def _media_line(block: Block) -> str:
    """`[image image/png sha256:...]`: enough to know it again, without its bytes."""
    data = _base64(getattr(block, _BYTES_OF[block.block_type]))
    digest = sha256(data) if data else None
    where = f"sha256:{digest}" if digest else block.path or block.url
    if where and not digest and str(where).startswith("data:"):
        digest = sha256(str(where))
        where = f"sha256:{digest}" if digest else None
    named = [block.block_type, getattr(block, _TYPE_OF[block.block_type]), getattr(block, "title", None)]
    return f"[{_named(*named, where)}]"


def _named(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part)


def _block_json(block: BaseModel) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {}
    bytes_of = _BYTES_OF.get(getattr(block, "block_type", ""))
    for name in type(block).model_fields:
        held = getattr(block, name)
        if isinstance(held, BaseModel):
            fields[name] = _block_json(held)
        elif isinstance(held, list) and held and isinstance(held[0], BaseModel):
            fields[name] = [_block_json(inner) for inner in held]
        else:
            fields[name] = _base64(held) if name == bytes_of else _plain(held)
    return fields


def _block(stored: Mapping[str, Any]) -> BaseModel:
    """A block from its fields.

    Its path is set behind the check's back: the file may be gone since, and the message was said all the same.
    """
    kind = _BLOCKS[stored["block_type"]]
    fields = {name: _held(held) if name in _NESTED else _whole(held) for name, held in stored.items()}
    path = fields.pop("path", None)
    block = kind.model_validate(fields)
    if path is not None:
        cast("Any", block).path = path if stored["block_type"] == "document" else Path(path)
    return block


def _held(held: Any) -> Any:
    """The blocks in a block: one, several, or a text in their place."""
    if isinstance(held, list):
        return [_held(inner) for inner in held]
    return _block(held) if isinstance(held, dict) else held


def _base64(data: bytes | IOBase | None) -> str | None:
    """The bytes of a block as base64, which is how LlamaIndex holds them; a stream is read from its start."""
    if isinstance(data, IOBase):
        data.seek(0)
        return base64.b64encode(data.read()).decode()
    return None if data is None else resolve_binary(raw_bytes=data, as_base64=True).read().decode()


def _plain(value: Any) -> JsonValue:
    """The value as JSON that `_whole` reads: bytes and lone surrogates are what JSON cannot hold."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, (bytes, bytearray)):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        inner = {str(_plain(str(name))): _plain(held) for name, held in value.items()}
        return {_AS_IS: inner} if set(inner) in ({_BYTES}, {_AS_IS}) else inner
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(held) for held in value]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # infinite and NaN are no JSON
    return cast("JsonValue", to_jsonable_python(value, fallback=str))


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(held) for held in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_BYTES}:
        return base64.b64decode(value[_BYTES])
    if set(value) == {_AS_IS}:
        return {name: _whole(held) for name, held in value[_AS_IS].items()}
    return {name: _whole(held) for name, held in value.items()}
