"""What a block file says it holds, as the header of a safetensors file, and back. Bytes only, no disk.

The header is JSON: in `__metadata__` a checksum and the manifest, after it the table of tensors. The
table follows from the manifest, so it is not believed but compared with what must be there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

import torch

from memos_engine.activation.codec import SCHEMES, Layout, Scheme
from memos_engine.activation.values import ModelKey

__all__ = [
    "FORMAT",
    "OPENING",
    "SEALED_FROM",
    "Manifest",
    "Miss",
    "Place",
    "Unfit",
    "Why",
    "header_of",
    "manifest_in",
    "places",
]

FORMAT = 1
"""Raised when an older reader would misread the file."""
OPENING = b'{"__metadata__":{"checksum":"'
"""How the header of every block file begins; the checksum follows, in 32 hexadecimal digits."""
SEALED_FROM = len(OPENING) + 32
"""Where in the header the bytes begin that the checksum covers."""

Why: TypeAlias = Literal[
    "absent",
    "unreadable",
    "foreign",
    "newer",
    "damaged",
    "other_model",
    "other_tokenizer",
    "other_template",
    "other_rope",
    "other_adapter",
    "other_dtype",
    "other_layers",
    "stale",
    "slow",
]
"""Why a file is of no use; a constant word that can be counted."""

_NAME = "memos_block"
_ALIGNED_BYTES = 64
_ID_MAX = 1 << 31
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}


@dataclass(frozen=True, slots=True)
class Miss:
    """A file that cannot be used, which is no error: the text is there to be read again."""

    why: Why
    detail: str


class Unfit(Exception):
    """Carries a miss out of the checks; it never leaves `block_file`."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.miss = Miss(why, detail)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file says it holds."""

    key: ModelKey
    ids: tuple[int, ...]
    behind: tuple[int, ...]
    shapes: tuple[tuple[int, int, int], ...]
    """Heads, width of the keys, width of the values; by layer."""
    scheme: Scheme
    exact: int
    """Tokens at the start that are kept in float16, beside int8."""
    about: Mapping[str, str]
    """What the caller wants it to be known by: memory id, hash of the text, version, salt."""
    licence: str | None
    """Of the model it was made with. None means unknown."""


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of a file."""

    layer: int
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Bytes from the end of the header."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    @property
    def entry(self) -> dict[str, Any]:
        """How the table of a safetensors file tells it."""
        return {
            "dtype": _DTYPES[self.dtype],
            "shape": list(self.shape),
            "data_offsets": [self.start, self.start + self.size_bytes],
        }


def places(manifest: Manifest) -> list[Place]:
    """Return where each tensor is: wide numbers before narrow ones, so that all are aligned; then by layer."""
    found = []
    for layer, (heads, key_dim, value_dim) in enumerate(manifest.shapes):
        layout = Layout(manifest.scheme, heads, len(manifest.ids), key_dim, value_dim, manifest.exact)
        found += [(layer, name, *told) for name, told in layout.tensors().items()]
    found.sort(key=lambda one: -one[2].itemsize)
    ordered, start = [], 0
    for layer, name, dtype, shape in found:
        ordered.append(Place(layer, name, dtype, shape, start))
        start += ordered[-1].size_bytes
    return ordered


def header_of(manifest: Manifest) -> bytes:
    """Return the length of the header and the header, with zeros for the checksum."""
    told = json.dumps({"format": FORMAT, **asdict(manifest)}, separators=(",", ":"))
    table = {f"L{place.layer}.{place.name}": place.entry for place in places(manifest)}
    header = OPENING + b"0" * 32 + b'",' + json.dumps({_NAME: told}).encode()[1:] + b","
    header += json.dumps(table, separators=(",", ":")).encode()[1:]
    header += b" " * (-(8 + len(header)) % _ALIGNED_BYTES)
    return len(header).to_bytes(8, "little") + header


def manifest_in(header: bytes, data_bytes: int) -> Manifest:
    """Return the manifest of a header whose file has `data_bytes` behind it.

    Raises:
        Unfit: It is foreign, newer or damaged; nothing else is raised, whatever the bytes are.
    """
    if not header.startswith(OPENING):
        raise Unfit("foreign", "the header is not that of a block file")
    try:
        table = json.loads(header)
        told = json.loads(table.pop("__metadata__")[_NAME])
        version = told["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Unfit("damaged", f"the header cannot be read ({type(exc).__name__})") from None
    if type(version) is not int or version < 1:
        raise Unfit("damaged", "the format is no number")
    if version > FORMAT:
        raise Unfit("newer", f"format {version}; this version reads {FORMAT}")
    try:
        manifest = _manifest(told)
    except (ValueError, KeyError, TypeError) as exc:
        raise Unfit("damaged", f"the manifest is not one ({type(exc).__name__}: {exc})") from None
    # counted first, so that a manifest cannot ask for more work than its header is long
    per_layer = len(Layout(manifest.scheme, 1, 1, 1, 1).tensors())
    if len(table) != per_layer * len(manifest.shapes):
        raise Unfit("damaged", f"{len(table)} tensors are not what the manifest says")
    expected = places(manifest)
    if table != {f"L{place.layer}.{place.name}": place.entry for place in expected}:
        raise Unfit("damaged", "the table of tensors is not that of the manifest")
    if expected[-1].start + expected[-1].size_bytes != data_bytes:
        raise Unfit("damaged", f"{data_bytes} bytes of tensors are not what the manifest says")
    return manifest


def _manifest(told: Mapping[str, Any]) -> Manifest:
    """Read a manifest from JSON; a KeyError, TypeError or ValueError says that it is none."""
    ids, behind, shapes = _ids(told["ids"]), _ids(told["behind"]), told["shapes"]
    scheme, exact, about, licence = told["scheme"], told["exact"], told["about"], told["licence"]
    _require(len(ids) > 0, "ids")
    _require(isinstance(shapes, list) and len(shapes) > 0, "shapes")
    _require(scheme in SCHEMES, "scheme")
    _require(type(exact) is int and 0 <= exact <= len(ids), "exact")
    _require(isinstance(about, dict) and all(isinstance(text, str) for text in about.values()), "about")
    _require(licence is None or isinstance(licence, str), "licence")
    return Manifest(
        key=_key(told["key"]),
        ids=ids,
        behind=behind,
        shapes=tuple(_shape(shape) for shape in shapes),
        scheme=scheme,
        exact=exact,
        about=about,
        licence=licence,
    )


def _key(told: Mapping[str, Any]) -> ModelKey:
    texts = {field.name: told[field.name] for field in fields(ModelKey)}
    adapter = texts.pop("adapter")
    _require(all(isinstance(text, str) for text in texts.values()), "key")
    _require(adapter is None or isinstance(adapter, str), "key")
    return ModelKey(**texts, adapter=adapter)


def _ids(told: object) -> tuple[int, ...]:
    if not isinstance(told, list) or not all(type(one) is int and 0 <= one < _ID_MAX for one in told):
        raise ValueError("ids")
    return tuple(told)


def _shape(told: object) -> tuple[int, int, int]:
    if not isinstance(told, list) or len(told) != 3 or not all(type(n) is int and n > 0 for n in told):
        raise ValueError("shapes")
    return told[0], told[1], told[2]


def _require(holds: bool, what: str) -> None:  # noqa: FBT001 -- a check reads as one
    if not holds:
        raise ValueError(what)
