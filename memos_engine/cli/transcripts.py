"""Files of messages, as they are found: JSONL, a list, a ChatGPT export. Yields messages; captures nothing.

JSONL is read line by line; the other two are one JSON document each, which is read whole. Whatever is wrong
in a file is told with its place.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from memos_engine.capture.validate import check_name, check_text, check_time
from memos_engine.errors import BadInput, BadText, BadTime
from memos_engine.items import Json, Message

Format = Literal["jsonl", "messages", "chatgpt"]
FORMATS: tuple[Format, ...] = get_args(Format)
STDIN = "-"

_BOM = b"\xef\xbb\xbf"
_CHATGPT_TYPES = ("text", "multimodal_text")
_CHATGPT_ROLES = ("user", "assistant")
_Object = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a file."""

    thread: str
    message: Message
    done: int
    """How much of the file was read with it, in the unit of `Transcript.total`."""


class Transcript:
    """The messages of one file, in order; to be read once."""

    def __init__(self, file: BinaryIO, name: str, *, format: Format | None, thread: str | None) -> None:
        """Look at the beginning of `file`.

        Raises:
            BadInput: it is a document that cannot be taken.
        """
        self.blank = 0
        """Messages that say nothing, left out so far."""
        self.total: int | None = None
        """Bytes of a JSONL file, messages or conversations of a document. None: not known before the end."""
        self._name = name
        self._thread = ("" if name == STDIN else name) if thread is None else thread
        head, first = _head(file)
        chosen = format or _seen(first)
        if chosen == "jsonl":
            self._said = self._lines(itertools.chain(head, file))
            self.total = _size(file)
        else:
            document = self._parsed(b"".join([*head, *file]).removeprefix(_BOM), name)
            if chosen == "chatgpt" or (format is None and _is_chatgpt(document)):
                self._said = self._conversations(document)
            else:
                self._said = self._listed(document)

    def __iter__(self) -> Iterator[Said]:
        return self._said

    def _lines(self, lines: Iterator[bytes]) -> Iterator[Said]:
        done = 0
        for number, line in enumerate(lines, start=1):
            done += len(line)
            bare = line.removeprefix(_BOM).strip()
            if bare:
                where = f"{self._name}: line {number}"
                yield from self._message(self._parsed(bare, where), where, number, done)

    def _listed(self, document: Json) -> Iterator[Said]:
        found = document.get("messages") if isinstance(document, dict) else document
        if not isinstance(found, list):
            raise BadInput(
                f"{self._name} is neither a list of messages nor one message a line: see `memcube capture --help`"
            )
        self.total = len(found)
        return itertools.chain.from_iterable(
            self._message(value, f"{self._name}: message {number}", number, number)
            for number, value in enumerate(found, start=1)
        )

    def _message(self, value: Json, where: str, number: int, done: int) -> Iterator[Said]:
        """The one message of `value`, or none when it is blank."""
        with _told(where):
            if not isinstance(value, dict):
                raise BadInput("is no JSON object: write one as in {'role': 'user', 'text': 'Hello'}")
            text = _text(value)
            if not text.strip():
                self.blank += 1
                return
            known_as = _word(value, "id")
            if known_as is None and self._name != STDIN:
                known_as = f"line-{number}"
            message = Message(_role(value), text, known_as, _word(value, "name"), _time(value.get("at")))
            own = _word(value, "session") or _word(value, "thread")
        yield Said(own or self._thread, message, done)

    def _conversations(self, document: Json) -> Iterator[Said]:
        found = document if isinstance(document, list) else [document]
        if not all(_is_chatgpt([conversation]) for conversation in found):
            raise BadInput(f"{self._name} is no ChatGPT export: hand over its conversations.json")
        self.total = len(found)
        return itertools.chain.from_iterable(
            self._conversation(conversation, number)
            for number, conversation in enumerate(found, start=1)
            if isinstance(conversation, dict)
        )

    def _conversation(self, conversation: _Object, number: int) -> Iterator[Said]:
        """What the user and the assistant wrote in the branch that is current."""
        where = f"{self._name}: conversation {number}"
        at = conversation.get("create_time")
        with _told(where):
            own = _word(conversation, "conversation_id") or _word(conversation, "id")
        for node, message in _branch(conversation):
            at = message.get("create_time") or at  # some nodes have no time: that of the one before
            content, author = _object(message.get("content")), _object(message.get("author"))
            if (
                author.get("role") not in _CHATGPT_ROLES
                or content.get("content_type") not in _CHATGPT_TYPES
                or _object(message.get("metadata")).get("is_visually_hidden_from_conversation")
            ):
                continue
            with _told(f"{where}, message {node!r}"):
                text = _text({"content": content.get("parts")})
                if not text.strip():
                    self.blank += 1
                    continue
                said = Message(_role(author), text, check_name(node, "id"), _word(author, "name"), _time(at))
            yield Said(own or self._thread, said, number)

    def _parsed(self, data: bytes, where: str) -> Json:
        try:
            value: Json = json.loads(data.decode())
        except UnicodeDecodeError as exc:
            raise BadText(f"{where} is not UTF-8 ({exc.reason}, byte {exc.start}): save it as UTF-8") from exc
        except (ValueError, RecursionError) as exc:
            raise BadInput(f"{where} is not JSON ({exc}): correct it") from exc
        return value


@contextmanager
def opened(path: str, *, format: Format | None = None, thread: str | None = None) -> Iterator[Transcript]:
    """The messages of a file, or of standard input for `-`.

    Args:
        path: The file.
        format: What it is. None: seen by its beginning.
        thread: Conversation of the messages that name none. None: the file's name.

    Raises:
        BadInput: it cannot be read or taken; the message tells the place.
    """
    if thread is not None:
        check_name(thread, "thread")
    if path == STDIN:
        yield Transcript(sys.stdin.buffer, STDIN, format=format, thread=thread)
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 -- closed below; only the opening is translated
    except (OSError, ValueError) as exc:
        raise BadInput(f"{path!r} cannot be read ({exc}): name a file of messages, or - for a pipe") from exc
    with file:
        yield Transcript(file, Path(path).name, format=format, thread=thread)


def _head(file: BinaryIO) -> tuple[list[bytes], bytes]:
    """The lines up to the first that is not blank, and that one bare."""
    head: list[bytes] = []
    for line in file:
        head.append(line)
        bare = line.removeprefix(_BOM).strip()
        if bare:
            return head, bare
    return head, b""


def _seen(first: bytes) -> Format:
    """What a file is by its first line; `messages` stands for any document."""
    if first.startswith(b"["):
        return "messages"
    if first.startswith(b"{") and not first.endswith(b"}"):
        return "messages"  # an object that goes on over lines
    try:
        value = json.loads(first or b"null")
    except (ValueError, RecursionError):
        return "jsonl"  # which tells the line
    whole = isinstance(value, dict) and (isinstance(value.get("messages"), list) or "mapping" in value)
    return "messages" if whole else "jsonl"


def _size(file: BinaryIO) -> int | None:
    if not file.seekable():
        return None
    here = file.tell()
    size = file.seek(0, 2)
    file.seek(here)
    return size


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Say the place of what cannot be taken."""
    try:
        yield
    except BadInput as exc:
        raise type(exc)(f"{where}: {exc}") from exc


def _object(value: Json) -> _Object:
    return value if isinstance(value, dict) else {}


def _text(message: _Object) -> str:
    """The text of a message, checked; parts of text are joined, other parts left out. Blank for none."""
    if "text" not in message and "content" not in message:
        raise BadText("has neither text nor content: give it one of them")
    value = message.get("text", message.get("content"))
    parts: Sequence[Json] = value if isinstance(value, list) else [value]
    texts = [_object(part).get("text", "") if isinstance(part, dict) else part for part in parts]
    if not all(text is None or isinstance(text, str) for text in texts):
        raise BadText(f"has a text that is a {type(value).__name__}: make it a string")
    text = "\n".join(text for text in texts if isinstance(text, str) and text)
    return check_text(text) if text.strip() else ""


def _role(message: _Object) -> str:
    if message.get("role") is None:
        raise BadInput("has no role: say who speaks, as in 'role': 'user'")
    return check_name(message["role"], "role")


def _word(message: _Object, name: str) -> str | None:
    """A field that names something; numbers are taken as they are written."""
    value = message.get(name)
    if value is None or value == "":
        return None
    return check_name(str(value) if isinstance(value, int) else value, name)


def _time(value: Json) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
        elif isinstance(value, (int, float)) and math.isfinite(value):
            at = datetime.fromtimestamp(value, UTC)
        else:
            raise ValueError  # noqa: TRY301 -- told as the others
    except (ValueError, OverflowError, OSError) as exc:
        raise BadTime(f"at is {value!r}: write it as 2025-05-08T13:56:00+00:00") from exc
    check_time(at, "at")
    return at


def _is_chatgpt(document: Json) -> bool:
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and isinstance(first.get("mapping"), dict)


def _branch(conversation: _Object) -> Iterator[tuple[str, _Object]]:
    """The messages on the way from the root to the current node, oldest first."""
    nodes = _object(conversation.get("mapping"))
    current = conversation.get("current_node") or next(reversed(list(nodes)), None)
    way: dict[str, _Object] = {}
    while isinstance(current, str) and current in nodes and current not in way:
        node = _object(nodes[current])
        way[current] = _object(node.get("message"))
        current = node.get("parent")
    return ((name, message) for name, message in reversed(way.items()) if message)
