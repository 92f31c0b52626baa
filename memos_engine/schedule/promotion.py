"""When a passage is worth a block of its own, and when its block is worth its place. Pure.

Facts and prices in, decisions with their reasons out. It knows no store and no model: `blocks/promote.py`
gathers the facts and does what is decided. A passage's text stays whatever is decided here; only how it is
read changes.

A block pays when expected uses times what each saves exceed what making it takes. Uses are counted so that
each weighs half after a week (`HALF_LIFE`): at a steady rate the count is the number of uses in HALF_LIFE /
ln 2, ten days, so the count itself is what the next ten days should bring. Reading is what a text adds to a
prompt that is read anyway; loading is read, decoded, copied and re-rotated, and 15 % of it computed anew.

SmolLM2-135M on one core reads about 360 tokens/s and copies 25 GB/s; its disk gives 1.2 GB/s, its blocks have
12 kB a token as int8 files and 46 kB as tensors. A passage of 256 tokens then costs

    reading   256 / 360                                            0.711 s
    loading   3.1 MB / 1.2 GB/s + 4 * 11.8 MB / 25 GB/s + 15 % anew 0.111 s  (2.6 + 1.9 + 106.7 ms)
    making    (256 + 60 of the head) / 360 + 3.1 MB / 200 MB/s     0.893 s

so a use saves 0.600 s and 1.5 uses make good for making it. PROMOTE = 1.75 asks for 2.6: three within three
days, or six, one every four days; one a week never suffices. DEMOTE = 0.5 lets a block go at 0.74 uses: two
weeks after three uses on one day, 3.7 weeks after ten. Between the two lies a factor of 3.5, 1.8 half-lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

__all__ = [
    "ANEW",
    "BREAK_EVEN",
    "DEMOTE",
    "HALF_LIFE",
    "INCUMBENT",
    "PROMOTE",
    "Candidate",
    "Decision",
    "Machine",
    "Price",
    "Standing",
    "decide",
    "uses_needed",
]

HALF_LIFE = timedelta(days=7)
"""After which a use counts half."""
PROMOTE = 1.75
"""Times what making a block takes that its expected uses must save before it is made."""
DEMOTE = 0.5
"""The same, below which a block goes."""
BREAK_EVEN = 1.5
"""Times what loading takes that reading must take before a block is made; rates are measured, and err."""
INCUMBENT = 2.0
"""Times its saving a byte that another must save to take the place of a block that stands."""
ANEW = 0.15
"""Share of a block's tokens that composing computes anew."""

_PASSES = 4.0
"""Times that loading moves the tensors: decoded or copied once, re-rotated in three passes."""
_WRITE_BYTES_PER_S = 200e6
"""Encoding, checksum and disk: 3.1 MB took 16 ms."""


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds that one passage takes."""

    read_s: float
    """Reading its text within a prompt."""
    load_s: float
    """Using its block instead."""
    build_s: float
    """Making the block."""

    @property
    def saved_s(self) -> float:
        """What one use of the block saves; below 0 where loading is the slower way."""
        return self.read_s - self.load_s


@dataclass(frozen=True, slots=True)
class Machine:
    """How fast one model is here."""

    tokens_per_s: float
    """Of prefill, at the length where it is quickest: what a longer prompt costs more."""
    read_bytes_per_s: float
    """Of a file, from where it will lie after days: the disk."""
    copy_bytes_per_s: float
    bytes_per_token: int
    """Of the tensors that the model computes with."""
    head_tokens: int = 0
    """Tokens that a block is encoded behind."""

    def price(self, tokens: int, size_bytes: int) -> Price:
        """What a passage of so many tokens costs whose block's file has so many bytes."""
        read_s = tokens / self.tokens_per_s
        moved_s = _PASSES * tokens * self.bytes_per_token / self.copy_bytes_per_s
        return Price(
            read_s=read_s,
            load_s=size_bytes / self.read_bytes_per_s + moved_s + ANEW * read_s,
            build_s=(tokens + self.head_tokens) / self.tokens_per_s + size_bytes / _WRITE_BYTES_PER_S,
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that could become a block."""

    items: tuple[str, ...]
    uses: float
    """Expected ones: counted, each half after HALF_LIFE."""
    tokens: int
    bytes: int
    """Of the file that its block will be."""
    price: Price


@dataclass(frozen=True, slots=True)
class Standing:
    """A block that there is."""

    block: str
    items: tuple[str, ...]
    uses: float
    """As a candidate's."""
    tokens: int
    bytes: int
    price: Price
    pinned: bool = False
    """It stays, whatever it saves."""
    stale: bool = False
    """Its items no longer are what it holds, so nobody can use it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why."""

    op: Literal["stale", "demote", "promote"]
    block: str
    """The block that goes; "" when one is to be made."""
    items: tuple[str, ...]
    reason: str
    """A sentence of numbers; never text of a memory."""


def uses_needed(price: Price) -> float:
    """The uses from which on a passage is worth a block; infinite where loading is not well below reading."""
    if not price.read_s > BREAK_EVEN * price.load_s:
        return float("inf")
    return PROMOTE * price.build_s / price.saved_s


def decide(
    candidates: Sequence[Candidate], standing: Sequence[Standing], *, budget_bytes: int
) -> tuple[Decision, ...]:
    """What is to change: stale blocks go first, then those not worth their place; the best passages come last.

    Doing it and deciding again on the same facts changes nothing: a block has to fall well below what made it
    one, and another has to save INCUMBENT times as much a byte to take its place. Blocks that are pinned stay,
    and take their part of the budget; what is decided keeps to the rest.

    Args:
        budget_bytes: For all files together.
    """
    stale = [block for block in standing if block.stale]
    whole = [block for block in standing if not block.stale]
    pinned = [block for block in whole if block.pinned]
    kept = [block for block in whole if not block.pinned and _worth_keeping(block)]
    wanted = [passage for passage in candidates if _worth_making(passage)]
    chosen = _chosen([*kept, *wanted], budget_bytes - sum(block.bytes for block in pinned))
    staying = {one.block for one in (*pinned, *chosen) if isinstance(one, Standing)}
    gone = [block for block in whole if block.block not in staying]
    return (
        *(Decision("stale", one.block, one.items, _STALE) for one in stale),
        *(Decision("demote", one.block, one.items, _why_gone(one, budget_bytes)) for one in gone),
        *(Decision("promote", "", one.items, _why_made(one)) for one in chosen if isinstance(one, Candidate)),
    )


def _worth_making(passage: Candidate) -> bool:
    return passage.uses > uses_needed(passage.price)


def _worth_keeping(block: Standing) -> bool:
    price = block.price
    return price.saved_s > 0 and block.uses * price.saved_s >= DEMOTE * price.build_s


def _chosen(passages: Sequence[Candidate | Standing], room_bytes: int) -> list[Candidate | Standing]:
    """What fits, by what it saves a byte, best first; what is too large is passed over for what follows.

    Stable: with a block's bonus whatever was chosen stands earlier next time, and what was not, no earlier.
    """
    chosen: list[Candidate | Standing] = []
    for passage in sorted(passages, key=_rank):
        if passage.bytes <= room_bytes:
            room_bytes -= passage.bytes
            chosen.append(passage)
    return chosen


def _rank(passage: Candidate | Standing) -> tuple[float, tuple[str, ...]]:
    saved = passage.uses * passage.price.saved_s / max(passage.bytes, 1)
    return -saved * (INCUMBENT if isinstance(passage, Standing) else 1.0), passage.items


_STALE = "its items no longer are what it was made of"


def _why_made(passage: Candidate) -> str:
    price = passage.price
    return (
        f"{passage.uses:.2f} uses expected, more than {uses_needed(price):.2f}: reading {passage.tokens} tokens"
        f" takes {price.read_s:.3g} s, the block {price.load_s:.3g} s, making it {price.build_s:.3g} s"
    )


def _why_gone(block: Standing, budget_bytes: int) -> str:
    price = block.price
    if price.saved_s <= 0:
        return f"loading it takes {price.load_s:.3g} s, reading its {block.tokens} tokens only {price.read_s:.3g} s"
    if not _worth_keeping(block):
        least = DEMOTE * price.build_s / price.saved_s
        return f"{block.uses:.2f} uses expected, less than {least:.2f}: {block.tokens} tokens are read as text again"
    return (
        f"no room in {budget_bytes} bytes: with {block.uses:.2f} uses expected its {block.bytes} bytes save "
        f"{block.uses * price.saved_s / max(block.bytes, 1) * 1e6:.3g} s a megabyte, others more"
    )
