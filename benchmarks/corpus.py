"""Texts, vectors and queries made from a seed, on disk, so that every process shares one copy.

Texts are about 450 bytes of invented words under Zipf's law, without stop words: keyword search has
more to do than on real text. Vectors are clustered unit vectors. The embedder of a store benchmark
is a look-up in this file: it costs every system the same few microseconds a text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
ROW_BYTES = DIMENSION * 4
FINGERPRINT = "look-up"

WORDS = 30_000
ZIPF = 1.05
"""Exponent: a text of WORDS_PER_TEXT words holds about 50 different ones."""
WORDS_PER_TEXT = (55, 75)  # about 450 bytes
CLUSTERS = 300
SPREAD = 1.0
"""Length of the noise around a cluster's centre of length 1: neighbours in a cluster have cosine 0.5."""
QUERY_SPREAD = 0.6
"""The same around the text a query asks for: cosine 0.86."""
QUERY_WORDS = (3, 8)
PART = 10_000  # texts made at a time

Matrix = NDArray[np.float32]


class Corpus:
    """What `make_corpus` wrote, read piece by piece: nothing of it stays in memory but 12 bytes a text."""

    def __init__(self, folder: Path) -> None:
        self._texts = (folder / "texts").open("rb")
        self._rows = (folder / "rows").open("rb", buffering=0)
        self._offsets: NDArray[np.int64] = np.load(folder / "offsets.npy")
        self._keys: NDArray[np.uint64] = np.load(folder / "keys.npy")
        self._places: NDArray[np.int32] = np.load(folder / "places.npy")
        self.queries: list[tuple[str, int]] = json.loads((folder / "queries.json").read_text("utf-8"))
        """What is asked, and the number of the text that it asks for."""

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def close(self) -> None:
        """Close the files."""
        self._texts.close()
        self._rows.close()

    def texts(self, start: int, stop: int) -> list[str]:
        """The texts numbered `start` (inclusive) to `stop` (exclusive)."""
        self._texts.seek(int(self._offsets[start]))
        return self._texts.read(int(self._offsets[stop] - self._offsets[start])).decode().splitlines()

    def embed(self, texts: Sequence[str]) -> Matrix:
        """The vectors of texts or queries, shape (len(texts), D); an unknown text gets anybody's."""
        found = [self._row(text) for text in texts]
        return np.frombuffer(b"".join(found), np.float32).reshape(len(found), DIMENSION)

    def _row(self, text: str) -> bytes:
        key = _key(text)
        place = int(np.searchsorted(self._keys, np.uint64(key)))
        known = place < len(self._keys) and int(self._keys[place]) == key
        row = int(self._places[place]) if known else key % len(self._places)
        self._rows.seek(row * ROW_BYTES)
        return self._rows.read(ROW_BYTES)


def make_corpus(folder: Path, *, texts: int, extra: int, queries: int, seed: int) -> None:
    """Write texts with their vectors, and queries that ask for some of them, into a new folder.

    Args:
        folder: Where to; must not exist.
        texts: How many texts the queries ask for, the first ones.
        extra: How many more there are.
        queries: How many queries.
        seed: Of everything random; equal seeds make equal files.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    vocabulary = _vocabulary(rng)
    centres = _unit(rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32))
    offsets, keys = [0], []
    asked = np.sort(rng.choice(texts, queries, replace=queries > texts))
    found: list[tuple[str, int]] = []
    near: list[Matrix] = []
    with (folder / "texts").open("wb") as file, (folder / "rows").open("wb") as rows:
        for start in range(0, texts + extra, PART):
            made = _texts(rng, vocabulary, min(PART, texts + extra - start))
            vectors = _unit(centres[rng.integers(0, CLUSTERS, len(made))] + _noise(rng, len(made), SPREAD))
            rows.write(vectors.tobytes())
            for text in made:
                offsets.append(offsets[-1] + file.write(text.encode() + b"\n"))
                keys.append(_key(text))
            for number in asked[(asked >= start) & (asked < start + len(made))].tolist():
                found.append((_query(rng, made[number - start]), number))
                near.append(_unit(vectors[number - start] + _noise(rng, 1, QUERY_SPREAD)))
        rows.write(np.concatenate(near).tobytes())
    keys += [_key(query) for query, _ in found]
    order = np.argsort(np.array(keys, np.uint64), kind="stable")
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    np.save(folder / "keys.npy", np.array(keys, np.uint64)[order])
    np.save(folder / "places.npy", order.astype(np.int32))
    shuffled = [found[place] for place in rng.permutation(len(found)).tolist()]
    (folder / "queries.json").write_text(json.dumps(shuffled), encoding="utf-8")


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _vocabulary(rng: np.random.Generator) -> NDArray[np.str_]:
    """Invented words, frequent ones shorter, as in a real language."""
    syllables = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s")]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        count = 2 + (len(words) > 300) + (len(words) > 6000)
        words["".join(rng.choice(syllables, count))] = None
    return np.array(list(words))


def _texts(rng: np.random.Generator, vocabulary: NDArray[np.str_], count: int) -> list[str]:
    share = 1 / np.arange(1, WORDS + 1) ** ZIPF
    lengths = rng.integers(*WORDS_PER_TEXT, count, endpoint=True)
    words = vocabulary[rng.choice(WORDS, int(lengths.sum()), p=share / share.sum())].tolist()
    ends = np.cumsum(lengths).tolist()
    return [" ".join(words[end - length : end]) for end, length in zip(ends, lengths.tolist(), strict=True)]


def _query(rng: np.random.Generator, text: str) -> str:
    words = list(dict.fromkeys(text.split()))
    count = int(rng.integers(*QUERY_WORDS, endpoint=True))
    return " ".join(words[place] for place in rng.choice(len(words), count, replace=False).tolist())


def _noise(rng: np.random.Generator, count: int, length: float) -> Matrix:
    noise: Matrix = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    return noise * np.float32(length / DIMENSION**0.5)


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
