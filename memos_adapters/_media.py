"""Binary data in messages: taken out and kept by its hash, put back as it was. Pure; knows no framework.

Frameworks spell an image or a file in a dozen shapes, but the bytes are always base64 in a string, bare or
in a data URL. So strings are looked at, not shapes: what decodes and encodes again to the same string is
lifted out, whatever the field is called, and comes back character for character.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import TypeAlias

from memos_engine import NotFound

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

LEAST_CHARS = 512
"""Shorter strings stay where they are: a hash and its row would cost as much."""
MARK = "$memos"
_DATA_URL = re.compile(r"data:[^,\s]{0,200};base64,", re.ASCII)


def lift(value: JsonValue) -> tuple[JsonValue, dict[str, bytes]]:
    """The value with its binary strings replaced by their SHA-256, and the bytes by SHA-256."""
    media: dict[str, bytes] = {}
    return _lifted(value, media), media


def lower(value: JsonValue, media: Mapping[str, bytes]) -> JsonValue:
    """The value that `lift` took apart, whole again.

    Raises:
        NotFound: bytes that it needs are not among `media`.
    """
    if isinstance(value, list):
        return [lower(each, media) for each in value]
    if not isinstance(value, dict):
        return value
    mark = value.get(MARK)
    if len(value) != 1 or not isinstance(mark, dict):
        return {name: lower(each, media) for name, each in value.items()}
    if "as_is" in mark:
        return {MARK: lower(mark["as_is"], media)}
    digest = str(mark["sha256"])
    if digest not in media:
        raise NotFound(
            f"the binary data {digest!r} of a message is gone: the thread that held it was changed"
        )
    return f"{mark['head']}{base64.b64encode(media[digest]).decode()}"


def digests(value: JsonValue) -> set[str]:
    """SHA-256 of all that `lift` took out of a value."""
    if isinstance(value, list):
        return set().union(*(digests(each) for each in value))
    if not isinstance(value, dict):
        return set()
    mark = value.get(MARK)
    if len(value) == 1 and isinstance(mark, dict) and "as_is" not in mark:
        return {str(mark["sha256"])}
    return set().union(*(digests(each) for each in value.values()))


def sha256(text: str) -> str | None:
    """The hash of the bytes that a base64 string or data URL holds. None: it is neither."""
    found = _bytes(text)
    return None if found is None else hashlib.sha256(found[1]).hexdigest()


def _lifted(value: JsonValue, media: dict[str, bytes]) -> JsonValue:
    if isinstance(value, list):
        return [_lifted(each, media) for each in value]
    if isinstance(value, dict):
        inner = {name: _lifted(each, media) for name, each in value.items()}
        return {MARK: {"as_is": inner[MARK]}} if set(value) == {MARK} else inner
    if not isinstance(value, str) or len(value) < LEAST_CHARS or (found := _bytes(value)) is None:
        return value
    head, data = found
    digest = hashlib.sha256(data).hexdigest()
    media[digest] = data
    return {MARK: {"sha256": digest, "head": head}}


def _bytes(text: str) -> tuple[str, bytes] | None:
    """What stands before the base64 in a string, and the bytes it encodes. None: it is no base64."""
    url = _DATA_URL.match(text)
    head = url[0] if url else ""
    try:
        data = base64.b64decode(text[len(head) :], validate=True)
    except (binascii.Error, ValueError):
        return None
    return (head, data) if base64.b64encode(data).decode() == text[len(head) :] else None
