"""The cube file as types: its members, its manifest, and what a line of each member may hold. Pure.

A cube file is a folder, or a `.tar.zst` of one, with exactly these members. Text members hold one
JSON value a line; items are named by id, never by row number. Everything read is validated here
before it comes near a database; the models are strict, and their errors never show memory text.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_type_hints

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from memos_engine.errors import ArchiveDamaged, ArchiveForeign, ArchiveUnsafe
from memos_engine.items import EdgeKind, Kind, State, Tier, Visibility
from memos_engine.store.rows import LIVE, NODES, dumps

FORMAT: Final = "memcube"
VERSION: Final = 1
MANIFEST = "cube.json"
ITEMS, VERSIONS, EDGES, VECTOR_NAMES = "items.jsonl", "versions.jsonl", "edges.jsonl", "vectors.jsonl"
VECTORS = "vectors.f32"
"""Rows of `vectors.jsonl`, in its order: float32, little-endian, nothing between them."""
AUDIT, TOMBSTONES, CALLS = "audit.jsonl", "tombstones.jsonl", "calls.jsonl"
MEMBERS = (ITEMS, VERSIONS, EDGES, VECTOR_NAMES, VECTORS, AUDIT, TOMBSTONES, CALLS)
JSON_COLUMNS = ("value", "tags", "sources")
"""Columns that hold JSON, and travel as it."""
MANIFEST_BYTES_MAX = 2**20
LINE_BYTES_MAX = 32 * 2**20
DIMENSION_MAX = 2**16

_DIGITS = r"^[0-9a-f]{64}$"
_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999

Micros: TypeAlias = Annotated[int, Field(ge=_YEAR_1, le=_YEAR_9999)]
"""Microseconds since 1970 UTC, within what a datetime can hold."""
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=_DIGITS)]
Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Label: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]
Number: TypeAlias = Annotated[int, Field(ge=1, lt=2**53)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        defer_build=True,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class SourceRow(_Strict):
    """One of an item's sources; a field that does not apply is left out."""

    message_id: str | None = None
    thread: str | None = None
    document: str | None = None
    url: str | None = None
    span: tuple[Count, Count] | None = None


class ItemColumns(_Strict):
    """The columns of an item, in the order of `rows.COLUMNS`, those that hold JSON as JSON."""

    id: Id
    kind: Kind
    tier: Tier
    text: str
    namespace: tuple[Label, ...]
    key: str | None
    value: dict[str, JsonValue] | None
    role: str | None
    speaker: str | None
    thread: str
    session: str | None
    author: str
    message_id: str | None
    event_at: Micros | None
    valid_from: Micros | None
    valid_to: Micros | None
    expires_at: Micros | None
    created_at: Micros
    updated_at: Micros
    state: State
    version: Number
    confidence: Annotated[float, Field(ge=0, le=1)]
    priority: float
    tags: tuple[str, ...] | None
    sources: tuple[SourceRow, ...] | None
    visibility: Visibility
    origin: str
    ttl: Annotated[int, Field(ge=1, le=_YEAR_9999 - _YEAR_1)] | None

    @field_validator("value")
    @classmethod
    def _finite(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if value is not None and not _is_finite(value):
            raise ValueError("a number is infinite or NaN")
        return value


def _is_finite(value: JsonValue) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else True


class ItemRow(ItemColumns):
    """A line of `items.jsonl`: the current state of an item."""

    message_key: str | None
    indexed: bool

    @model_validator(mode="after")
    def _indexed_is_live(self) -> ItemRow:
        if self.indexed and (self.kind in NODES or self.state not in LIVE):
            raise ValueError(f"an item of kind {self.kind} and state {self.state} is in no index")
        return self


_HINTS = get_type_hints(ItemColumns, include_extras=True)
_CHANGEABLE: dict[str, Any] = {
    name: (_HINTS[name], None) for name in ItemColumns.model_fields if name != "id"
}
if TYPE_CHECKING:
    ItemChange: TypeAlias = BaseModel
else:
    ItemChange = create_model("ItemChange", __base__=_Strict, **_CHANGEABLE)
"""The columns that a version had otherwise than the next one; those not set were alike."""


class VersionRow(_Strict):
    """A line of `versions.jsonl`: an old state of an item."""

    item: Id
    version: Number
    until: Micros
    state: ItemChange

    @field_validator("state")
    @classmethod
    def _finite(cls, state: BaseModel) -> BaseModel:
        if not _is_finite(getattr(state, "value", None)):
            raise ValueError("a number is infinite or NaN")
        return state


class EdgeRow(_Strict):
    """A line of `edges.jsonl`."""

    source: Id
    kind: EdgeKind
    target: Id
    weight: float


class VectorRow(_Strict):
    """A line of `vectors.jsonl`: whose row of `vectors.f32` this is."""

    item: Id
    name: str


class AuditRow(_Strict):
    """A line of `audit.jsonl`; the hashes form a chain."""

    at: Micros
    principal: str
    action: str
    detail: str
    """JSON, letter by letter as it was hashed."""
    hash: Sha256


class TombstoneRow(_Strict):
    """A line of `tombstones.jsonl`."""

    id: Id
    at: Micros
    turn: Sha256 | None


class CallRow(_Strict):
    """A line of `calls.jsonl`: a call that carried an idempotency key."""

    key: str
    digest: Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{2})*$", max_length=256)]
    result: str
    at: Micros


class FileMark(_Strict):
    """Size and checksum of a member."""

    size: Count
    sha256: Sha256


class EmbedderMark(_Strict):
    """What made the vectors."""

    fingerprint: str
    dimension: Annotated[int, Field(ge=1, le=DIMENSION_MAX)]


class Counts(_Strict):
    """Rows of each member."""

    items: Count
    versions: Count
    edges: Count
    vectors: Count
    audit: Count
    tombstones: Count
    calls: Count


class Manifest(_Strict):
    """What `cube.json` says of the cube file that it stands in."""

    format: Literal["memcube"] = FORMAT
    version: Literal[1] = VERSION
    cube: Id
    """Id of the cube it was dumped from; a loaded cube gets an id of its own."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    created_at: AwareDatetime
    embedder: EmbedderMark | None
    """None when the cube never had a vector."""
    kinds: tuple[Kind, ...] | None
    """Kinds of items that were chosen. None means all."""
    counts: Counts
    files: dict[str, FileMark]

    @model_validator(mode="after")
    def _adds_up(self) -> Manifest:
        if set(self.files) != set(MEMBERS):
            raise ValueError(f"files must be exactly {', '.join(MEMBERS)}")
        width = 0 if self.embedder is None else 4 * self.embedder.dimension
        if self.files[VECTORS].size != self.counts.vectors * width or (self.counts.vectors and not width):
            raise ValueError(f"{VECTORS} has not the size of its rows")
        return self

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(mark.size for mark in self.files.values())

    @property
    def rows(self) -> int:
        """Rows of all members."""
        return sum(self.counts.model_dump().values())

    def encoded(self) -> bytes:
        """The manifest as `cube.json` holds it, with a checksum of itself."""
        body = self.model_dump(mode="json")
        return dumps({**body, "sha256": _checksum(body)}).encode() + b"\n"


class _Sealed(Manifest):
    sha256: Sha256


class _Head(BaseModel):
    model_config = ConfigDict(strict=True, hide_input_in_errors=True)
    format: str
    version: int


def _checksum(body: dict[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def parsed_manifest(data: bytes, where: str) -> Manifest:
    """The manifest that `Manifest.encoded` wrote.

    Raises:
        ArchiveForeign: another format, or a newer version.
        ArchiveUnsafe: it names a file outside the archive.
        ArchiveDamaged: malformed, or its own checksum is wrong.
    """
    try:
        head = _Head.model_validate_json(data)
    except ValidationError as exc:
        if exc.errors()[0]["type"] == "json_invalid":
            raise ArchiveDamaged(
                f"{where} has a malformed {MANIFEST} ({told(exc)}): dump the cube again"
            ) from exc
        raise ArchiveForeign(f"{where} is no cube file: {MANIFEST} names no format and version") from exc
    if head.format != FORMAT or head.version < VERSION:
        raise ArchiveForeign(
            f"{where} has format {head.format[:40]!r} version {head.version}, not {FORMAT!r}: load another"
        )
    if head.version > VERSION:
        raise ArchiveForeign(
            f"{where} has version {head.version} of the format, this package knows {VERSION}: "
            "upgrade with pip install -U memos-adapters"
        )
    try:
        sealed = _Sealed.model_validate_json(data)
    except ValidationError as exc:
        _refuse_paths(data, where)
        raise ArchiveDamaged(
            f"{where} has a malformed {MANIFEST} ({told(exc)}): dump the cube again"
        ) from exc
    manifest = Manifest.model_construct(**{name: getattr(sealed, name) for name in Manifest.model_fields})
    if _checksum(manifest.model_dump(mode="json")) != sealed.sha256:
        raise ArchiveDamaged(f"{where} has a changed {MANIFEST}: its checksum is wrong; dump the cube again")
    return manifest


class _Names(BaseModel):
    files: dict[str, Any]


def _refuse_paths(data: bytes, where: str) -> None:
    try:
        names = _Names.model_validate_json(data).files
    except ValidationError:
        return
    for name in names:
        refuse_path(name, where)


def refuse_path(name: str, where: str) -> None:
    """Refuse a member name that is a path rather than a plain name.

    Raises:
        ArchiveUnsafe: it is absolute, goes up, or holds a separator, a drive letter or NUL.
    """
    if name in {"", ".", ".."} or any(character in name for character in "/\\:\0"):
        raise ArchiveUnsafe(
            f"{where} names the member {name[:200]!r}, a path: do not trust where it comes from"
        )


def told(exc: ValidationError) -> str:
    """Where and why a validation failed, without the values."""
    first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:120]
    return f"{place!r}: {first['msg']}" if place else first["msg"]


R = TypeVar("R", bound=_Strict)


def parsed_line(model: type[R], line: bytes, where: str) -> R:
    """One line of a member.

    Raises:
        ArchiveDamaged: it is not what the member may hold.
    """
    try:
        return model.model_validate_json(line)
    except ValidationError as exc:
        raise ArchiveDamaged(f"{where} is malformed ({told(exc)}): dump the cube again") from exc
