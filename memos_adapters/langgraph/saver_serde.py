"""Bytes of values: which serializer a saver uses, and what it must never store or read.

Knows LangGraph's serializers; neither checkpoints nor storage.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from memos_engine import BadInput, StoreDamaged

_KEY_BYTES = (16, 24, 32)
_DEFLATED = "zlib:"
_WORTH_DEFLATING = "msgpack"  # what is encrypted does not shrink, and bytes are often an image
_DEFLATE_BYTES_MIN = 256
_DEFLATE_BYTES_MAX = 4_096
"""A checkpoint's own fields halve in 10 us; deflating longer values would take longer than to commit them."""


def serializer(
    serde: SerializerProtocol | None, encryption: bytes | CipherProtocol | None
) -> SerializerProtocol | None:
    """Return the serializer that a saver is asked to use. None: LangGraph's own.

    Raises:
        BadInput: it tells no kinds, so that pickle could hide in it, or the key cannot be one.
    """
    if serde is not None and not isinstance(serde, SerializerProtocol):
        raise BadInput(
            f"serde is a {type(serde).__name__} without dumps_typed and loads_typed: use JsonPlusSerializer()"
        )
    if encryption is None:
        return serde
    if isinstance(serde, EncryptedSerializer):
        raise BadInput("serde encrypts already: leave encryption= out")
    inner = serde or BaseCheckpointSaver.serde
    if not isinstance(encryption, bytes):
        return EncryptedSerializer(encryption, inner)
    if len(encryption) not in _KEY_BYTES:
        raise BadInput(
            f"the key has {len(encryption)} bytes: use 32 random ones, as from secrets.token_bytes(32)"
        )
    return EncryptedSerializer.from_pycryptodome_aes(inner, key=encryption)


@dataclass(frozen=True, slots=True)
class Codec:
    """A serializer that stores nothing as pickle, and says so when it cannot read."""

    serde: SerializerProtocol

    def dumps(self, value: Any, what: str) -> tuple[str, bytes]:
        """Return the kind and bytes of a value.

        Raises:
            BadInput: the serializer would pickle it.
        """
        kind, data = self.serde.dumps_typed(value)
        if kind == _WORTH_DEFLATING and _DEFLATE_BYTES_MIN <= len(data) <= _DEFLATE_BYTES_MAX:
            return _DEFLATED + kind, zlib.compress(data, 1)
        if _is_pickle(kind):
            raise BadInput(
                f"{what} holds a {type(value).__name__} that only pickle can store, and a pickle runs code when "
                "it is read: put plain data, messages, dataclasses or pydantic models there instead"
            )
        return kind, data

    def loads(self, kind: str, data: bytes, what: str) -> Any:
        """Return the value of a kind and bytes.

        Raises:
            BadInput: it is pickled, or encrypted with another key than this serializer's.
            StoreDamaged: it was deflated and does not inflate.
        """
        if kind.startswith(_DEFLATED):
            kind, data = kind.removeprefix(_DEFLATED), _inflated(data, what)
        if _is_pickle(kind):
            raise BadInput(
                f"{what} is stored as pickle, which runs code when it is read: delete the thread, or read it with "
                "the program that wrote it and store it anew"
            )
        try:
            return self.serde.loads_typed((kind, data))
        except (ValueError, AssertionError, NotImplementedError) as exc:
            if "+" not in kind:
                raise
            raise BadInput(
                f"{what} is encrypted ({kind!r}) and does not open ({exc}): hand over the key it was written with, "
                "as MemosSaver(memos, encryption=key)"
            ) from exc


def _is_pickle(kind: str) -> bool:
    return kind.split("+", 1)[0] == "pickle"


def _inflated(data: bytes, what: str) -> bytes:
    """Bytes that were deflated: never more than are deflated, so no bomb goes off.

    Raises:
        StoreDamaged: they are cut, or something else.
    """
    inflating = zlib.decompressobj()
    try:
        found = inflating.decompress(data, _DEFLATE_BYTES_MAX + 1)
    except zlib.error:
        found = b""
    if not inflating.eof:
        raise StoreDamaged(f"{what} does not inflate: restore the folder from a copy, or delete the thread")
    return found
