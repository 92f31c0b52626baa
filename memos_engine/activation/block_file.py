"""One block <-> one safetensors file that says what it is; anything that does not fit is a clean miss.

The file is written beside its place, made durable and renamed; it is read by mapping it, so that a
layer in the model's own dtype is not copied. Other tools can read such a file; files of other tools
are misses here. Keys and values tell the text, so only its owner can read it.

A checksum over every other byte finds damage, not forgery: who can write to the folder can write a
block. But no file, whoever wrote it, makes a load raise, run code, or take more memory than the
tensors it really has. A file that is cut while it is in use fails as mapped files do; blocks are only
ever replaced whole.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TypeAlias

import torch
import xxhash
from torch import Tensor

from memos_engine.activation.codec import SCHEMES, Scheme, decode, encoded, is_plain
from memos_engine.activation.manifest import (
    OPENING,
    SEALED_FROM,
    Manifest,
    Miss,
    Unfit,
    header_of,
    manifest_in,
    places,
)
from memos_engine.activation.values import KVBlock, LayerKind, LayerKV, ModelKey
from memos_engine.errors import BadInput, StoreError, StoreFull
from memos_engine.models.local_memory import tensors_in_one

__all__ = ["load_block", "read_manifest", "save_block"]

_Opened: TypeAlias = tuple[Manifest, mmap.mmap, int]
"""The manifest, the whole file, and where its tensors begin."""

_HEADER_BYTES_MAX = 1 << 24
"""A million tokens take less than half."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


def save_block(
    path: Path,
    block: KVBlock,
    *,
    scheme: Scheme = "int8",
    about: Mapping[str, str] | None = None,
    licence: str | None = None,
) -> int:
    """Write a block to `path`, atomically and durably, and return the bytes of the file.

    What int8 cannot hold (keys beyond 65,504, values beyond eight million) is written as bfloat16.

    Args:
        about: Any strings that a load is to be checked against, such as memory id and text hash.
        licence: That of the model, to travel with what was made from it.

    Raises:
        BadInput: The scheme is unknown, or the block is empty or holds what is not finite.
        StoreFull: No space left; what was at `path` stands.
        StoreError: It cannot be written; what was at `path` stands.
    """
    if scheme not in SCHEMES:
        raise BadInput(f"scheme={scheme!r} must be one of {SCHEMES!r}.")
    _require_sound(block)
    if not all(isinstance(text, str) for text in (about or {}).values()):
        raise BadInput(f"about={about!r} must hold strings only.")
    exact = 1 if scheme == "int8" and block.start == 0 else 0
    layers: list[dict[str, Tensor]] = []
    for layer in block.layers:
        tensors = encoded(_on_cpu(layer), scheme, exact=exact)
        if tensors is None:
            return save_block(path, block, scheme="bfloat16", about=about, licence=licence)
        layers.append(tensors)
    manifest = Manifest(
        key=block.key,
        ids=block.ids,
        behind=block.behind,
        shapes=tuple((len(one.keys), one.keys.shape[-1], one.values.shape[-1]) for one in block.layers),
        scheme=scheme,
        exact=exact,
        about=dict(about or {}),
        licence=licence,
    )
    ordered = (layers[place.layer][place.name] for place in places(manifest))
    return _written(path, header_of(manifest), ordered)


def load_block(
    path: Path,
    key: ModelKey,
    kinds: Sequence[LayerKind],
    *,
    dtype: torch.dtype = torch.float32,
    about: Mapping[str, str] | None = None,
    trusted: bool = False,
) -> KVBlock | Miss:
    """Return the block at `path` if this very model made it and the file is whole, else why it is a miss.

    Tensors that need no decoding are the mapped file itself; writing to them changes no file.

    Args:
        key: Of the model that is to use it.
        kinds: The layers of that model.
        dtype: Which the tensors shall have; the model's own.
        about: Strings the file must have been saved with; others are not looked at.
        trusted: Leave out the checksum, for a file that this process has checked before.
    """
    try:
        manifest, content, start = _opened(path)
        _require_ours(manifest, key)
        _require_layers(manifest, kinds)
        _require_fresh(manifest, about or {})
        if not trusted:
            _require_whole(content)
    except Unfit as unfit:
        return unfit.miss
    return KVBlock(
        ids=manifest.ids,
        behind=manifest.behind,
        layers=_layers(manifest, content, start, dtype),
        key=key,
        rounded=not is_plain(manifest.scheme, dtype),
    )


def read_manifest(path: Path, *, trusted: bool = True) -> Manifest | Miss:
    """Return what the file at `path` says it holds, or why it is a miss for every model.

    Args:
        trusted: Leave out the checksum; without it all of the file is read.
    """
    try:
        manifest, content, _ = _opened(path)
        if not trusted:
            _require_whole(content)
    except Unfit as unfit:
        return unfit.miss
    return manifest


def _require_sound(block: KVBlock) -> None:
    if not block.ids or not block.layers:
        raise BadInput(
            f"A block of {len(block.ids)} tokens and {len(block.layers)} layers holds nothing to keep."
        )
    for number, layer in enumerate(block.layers):
        for tensor in (layer.keys, layer.values):
            if tensor.ndim != 3 or tensor.shape[1] != len(block.ids):
                raise BadInput(
                    f"Layer {number} of the block has shape {tuple(tensor.shape)!r}: it must be "
                    f"(heads, {len(block.ids)}, width). Make blocks with LocalModel.block."
                )
            if not bool(torch.isfinite(tensor).all()):
                raise BadInput(f"Layer {number} of the block holds NaN or infinity: try dtype='float32'.")


def _on_cpu(layer: LayerKV) -> LayerKV:
    return LayerKV(layer.keys.detach().cpu(), layer.values.detach().cpu())


def _written(path: Path, header: bytes, tensors: Iterable[Tensor]) -> int:
    """Write header and tensors to a file beside `path`, put the checksum in, and let it take the place."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            seal = _seal(header)
            file.write(header)
            for tensor in tensors:
                raw = memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
                seal.update(raw)
                file.write(raw)
            size_bytes = file.tell()
            file.seek(8 + len(OPENING))
            file.write(seal.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary = None
        _sync(path.parent)
    except OSError as exc:
        if exc.errno in _FULL:
            raise StoreFull(f"No space left to write {str(path)!r}: free some space, then repeat.") from exc
        raise StoreError(f"{str(path)!r} cannot be written ({exc}): give this process write access.") from exc
    finally:
        if temporary is not None:
            with suppress(OSError):  # what made the write fail may keep it; its name says that it is no block
                temporary.unlink()
    return size_bytes


def _sync(folder: Path) -> None:
    """Make the name durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(header: bytes) -> xxhash.xxh3_128:
    """Begin the checksum: the length of the header and all of it behind the checksum itself."""
    seal = xxhash.xxh3_128(header[:8])
    seal.update(header[8 + SEALED_FROM :])
    return seal


def _opened(path: Path) -> _Opened:
    """Map a file and read its manifest.

    Raises:
        Unfit: It is not there, cannot be read, or is no block file of this format.
    """
    content = _mapped(path)
    header_bytes = int.from_bytes(content[:8], "little")
    if not SEALED_FROM < header_bytes <= min(len(content) - 8, _HEADER_BYTES_MAX):
        raise Unfit("foreign", "it does not begin as a safetensors file that has such a header")
    start = 8 + header_bytes
    return manifest_in(content[8:start], len(content) - start), content, start


def _mapped(path: Path) -> mmap.mmap:
    # a pipe that carries the name would keep a plain open waiting for its other end
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise Unfit("absent", "there is no such file") from None
    except (OSError, ValueError) as exc:
        raise Unfit("unreadable", str(exc)) from None
    try:
        found = os.fstat(handle)
        if not S_ISREG(found.st_mode):
            raise Unfit("foreign", "it is no regular file")
        if found.st_size <= 8 + SEALED_FROM:
            raise Unfit("damaged", f"it has {found.st_size} bytes")
        return mmap.mmap(handle, found.st_size, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as exc:
        raise Unfit("unreadable", str(exc)) from None
    finally:
        os.close(handle)


def _require_ours(manifest: Manifest, key: ModelKey) -> None:
    made = manifest.key
    if made.model != key.model:
        raise Unfit(
            "other_model", "it was made by other weights, settings or a major version of transformers"
        )
    if made.tokenizer != key.tokenizer:
        raise Unfit("other_tokenizer", "its tokens are of another tokenizer")
    if made.template != key.template:
        raise Unfit("other_template", "it was made with another chat template")
    if made.rope != key.rope:
        raise Unfit("other_rope", "its positions were entered with other rotary parameters")
    if made.adapter != key.adapter:
        raise Unfit("other_adapter", "it was made with another adapter, or with one where now is none")
    if made.dtype != key.dtype:
        raise Unfit("other_dtype", f"it was made in {made.dtype}, the model runs in {key.dtype}")


def _require_layers(manifest: Manifest, kinds: Sequence[LayerKind]) -> None:
    wanted = tuple((kind.kv_heads, kind.head_dim, kind.value_dim or kind.head_dim) for kind in kinds)
    if manifest.shapes != wanted:
        raise Unfit("other_layers", f"it has {len(manifest.shapes)} layers that are not those of the model")


def _require_fresh(manifest: Manifest, about: Mapping[str, str]) -> None:
    for name, text in about.items():
        if manifest.about.get(name) != text:
            raise Unfit("stale", f"its {name!r} is another")


def _require_whole(content: mmap.mmap) -> None:
    with memoryview(content) as view:
        seal = xxhash.xxh3_128(view[:8])
        seal.update(view[8 + SEALED_FROM :])
        told = bytes(view[8 + len(OPENING) : 8 + SEALED_FROM])
    if told != seal.hexdigest().encode():
        raise Unfit("damaged", "the checksum is not that of the content")


def _layers(manifest: Manifest, content: mmap.mmap, start: int, dtype: torch.dtype) -> tuple[LayerKV, ...]:
    parts: list[dict[str, Tensor]] = [{} for _ in manifest.shapes]
    for place in places(manifest):
        count = place.size_bytes // place.dtype.itemsize
        flat = (
            torch.frombuffer(content, dtype=place.dtype, count=count, offset=start + place.start)
            if count
            else torch.empty(0, dtype=place.dtype)
        )
        parts[place.layer][place.name] = flat.view(place.shape)
    if is_plain(manifest.scheme, dtype):
        return tuple(LayerKV(tensors["k"], tensors["v"]) for tensors in parts)
    made = tensors_in_one([tuple(tensors[name].shape) for tensors in parts for name in ("k", "v")], dtype)
    layers = tuple(LayerKV(keys, values) for keys, values in zip(made[::2], made[1::2], strict=True))
    for tensors, layer in zip(parts, layers, strict=True):
        decode(tensors, manifest.scheme, layer)
    return layers
