"""The longest prefix that was read before: an index of token sequences by chained block hashes.

A sequence is cut into blocks of tokens; each block's digest is made of the digest before it, so equal
digests mean equal tokens from the very first one on. The first digest is made of the model's key, its
adapter and the tenant's salt: what one tenant cached is never found, nor even probed for, by another.
Digests are the same in every process and may be stored beside files.

What is kept for a sequence is the caller's: a prefix in memory, a file's name. Nothing here reads it,
bounds its size, or touches torch.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from memos_engine.activation.values import ModelKey
from memos_engine.errors import BadLimit

__all__ = ["Chain", "Match", "chain_digests", "chain_root"]

Kept = TypeVar("Kept")


def chain_root(key: ModelKey, *, salt: str = "") -> bytes:
    """The digest that every sequence of one model, adapter and tenant starts from.

    Args:
        salt: The tenant's. Two tenants with the same salt find each other's prefixes.
    """
    told = "\0".join((key.digest, key.adapter or "", salt))
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()


def chain_digests(ids: Sequence[int], root: bytes, *, block_tokens: int) -> Iterator[bytes]:
    """Yield the digest of each whole block of `ids`: SHA-256 of the one before it and the block's tokens."""
    digest = root
    for end in range(block_tokens, len(ids) + 1, block_tokens):
        block = ids[end - block_tokens : end]
        digest = hashlib.sha256(digest + struct.pack(f"<{block_tokens}q", *block)).digest()
        yield digest


@dataclass(frozen=True, slots=True)
class Match(Generic[Kept]):
    """What was found for a sequence."""

    kept: Kept
    tokens: int
    """How many leading tokens it shares with the sequence; it may hold more."""


@dataclass(eq=False, slots=True)
class _Entry(Generic[Kept]):
    ids: tuple[int, ...]
    kept: Kept
    digests: tuple[bytes, ...]
    """From the root to the last whole block."""


class Chain(Generic[Kept]):
    """An index of sequences by their leading tokens. Thread-safe.

    Args:
        block_tokens: Tokens of one block. A lookup hashes whole blocks and compares the tokens behind
            the last one that is known with every sequence that goes on from there.

    Raises:
        BadLimit: `block_tokens` is less than 1.
    """

    def __init__(self, *, block_tokens: int = 64) -> None:
        if block_tokens < 1:
            raise BadLimit(f"block_tokens={block_tokens!r} must be at least 1.")
        self._block_tokens = block_tokens
        self._lock = threading.Lock()
        self._entries: dict[tuple[bytes, tuple[int, ...]], _Entry[Kept]] = {}
        self._through: dict[bytes, dict[int, _Entry[Kept]]] = {}
        """Digest -> the sequences that begin with it."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, ids: Sequence[int], kept: Kept, *, root: bytes) -> None:
        """Keep `kept` for the sequence `ids`; what was kept for just these tokens is replaced."""
        digests = (root, *chain_digests(ids, root, block_tokens=self._block_tokens))
        entry = _Entry(ids=tuple(ids), kept=kept, digests=digests)
        with self._lock:
            self._drop(root, entry.ids)
            self._entries[root, entry.ids] = entry
            for digest in digests:
                self._through.setdefault(digest, {})[id(entry)] = entry

    def discard(self, ids: Sequence[int], *, root: bytes) -> bool:
        """Forget what was kept for just these tokens; tell whether there was any."""
        with self._lock:
            return self._drop(root, tuple(ids))

    def longest(self, ids: Sequence[int], *, root: bytes) -> Match[Kept] | None:
        """Find what shares the most leading tokens with `ids`; of equals the newest. None where nothing does."""
        with self._lock:
            known, whole = root, 0
            for digest in chain_digests(ids, root, block_tokens=self._block_tokens):
                if digest not in self._through:
                    break
                known, whole = digest, whole + self._block_tokens
            found, tokens = None, max(whole, 1)
            for entry in self._through.get(known, {}).values():
                shared = _shared(entry.ids, ids, whole)
                if shared >= tokens:
                    found, tokens = entry, shared
            return None if found is None else Match(kept=found.kept, tokens=tokens)

    def check_integrity(self) -> None:
        """Assert that every sequence hangs under all of its digests and nothing else does.

        Raises:
            AssertionError: The index contradicts itself.
        """
        with self._lock:
            hanging = {(digest, at) for digest, entries in self._through.items() for at in entries}
            expected = {(digest, id(entry)) for entry in self._entries.values() for digest in entry.digests}
            assert hanging == expected, "digests and sequences disagree"
            assert all(self._through.values()), "a digest leads nowhere"

    def _drop(self, root: bytes, ids: tuple[int, ...]) -> bool:
        entry = self._entries.pop((root, ids), None)
        if entry is None:
            return False
        for digest in entry.digests:
            del self._through[digest][id(entry)]
            if not self._through[digest]:
                del self._through[digest]
        return True


def _shared(one: Sequence[int], other: Sequence[int], known: int) -> int:
    """How many leading tokens two sequences share, the first `known` being shared for sure."""
    count = known
    for ours, theirs in zip(one[known:], other[known:], strict=False):
        if ours != theirs:
            break
        count += 1
    return count
