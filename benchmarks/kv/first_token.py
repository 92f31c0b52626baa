"""Time until the first token of an answer over one long memory: read anew, or taken from where it is kept.

A memory is one text behind BOS, so that its keys and values are exact as they stand; a question follows.
Every leg ends with the token in hand. A file is `warm` in the page cache, or `cold` on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks.kv import published
from benchmarks.kv.subjects import Ground
from benchmarks.kv.timing import Leg, drop_from_cache, in_rounds, speedups, times
from benchmarks.machine import Row
from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import Scheme
from memos_engine.activation.compose import compose
from memos_engine.activation.values import KVBlock, Prefix
from memos_engine.models.local import LocalModel

__all__ = [
    "FLOOR",
    "FULL",
    "INT8",
    "OURS",
    "PUBLISHED",
    "QUESTION_TOKENS",
    "Sizes",
    "first_token_rows",
    "likeliest",
]

QUESTION_TOKENS = 32
FULL, FLOOR = "full prefill", "floor: cache in RAM"
OURS, INT8, PUBLISHED = "ours", "ours, int8", "published"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens of the memory by the name they have in results, and rounds of each."""

    tokens: Mapping[str, int]
    rounds: Mapping[str, int]


def first_token_rows(ground: Ground, sizes: Sizes) -> dict[str, Row]:
    """One row a system, with columns for each size."""
    rows: dict[str, Row] = {}
    ground.model.rates  # noqa: B018 -- measured once per process, not with the first question
    limit = ground.model.capabilities.context_tokens - 2 * QUESTION_TOKENS
    for name, count in sizes.tokens.items():
        for system, row in _of_size(ground, min(count, limit), sizes.rounds[name], f"_{name}").items():
            rows.setdefault(system, {}).update(row)
    return rows


def _of_size(ground: Ground, count: int, rounds: int, suffix: str) -> dict[str, Row]:
    text = ground.text(count + QUESTION_TOKENS)
    memory, question = text[:count], text[count:]
    prefix = ground.model.prefill(memory)
    legs, written = _legs(ground.model, prefix, question, ground.folder)
    warm_up = {name: leg for name, leg in legs.items() if name != FULL}
    in_rounds(warm_up, 1)
    spent, tokens = in_rounds(legs, rounds)
    rows: dict[str, Row] = {}
    for name, each in spent.items():
        rows[name] = times(each, suffix[1:])
        if name != FULL:
            rows[name] |= speedups(spent[FULL], each, "ttft_speedup", suffix)
            rows[name][f"same_token{suffix}"] = int(tokens[name] == tokens[FULL])
    for name in (OURS, INT8):
        rows[name] |= speedups(spent[name], spent[FLOOR], "to_floor", suffix)
    for name, size_bytes in written.items():
        rows[name][f"file_mb{suffix}"] = round(size_bytes / 1e6, 2)
    return rows


def _legs(
    model: LocalModel, prefix: Prefix, question: tuple[int, ...], folder: Path
) -> tuple[dict[str, Leg], dict[str, int]]:
    """All ways to the first token, and the bytes of the files they read."""
    network = model.network
    block = KVBlock(ids=prefix.ids, behind=(), layers=prefix.layers, key=model.key)
    paths = {name: folder / f"{name}.block" for name in ("float32", "bfloat16", "int8")}
    pickled = folder / "published.pickle"
    dtype: Scheme = "float32" if str(network.dtype) == "torch.float32" else "bfloat16"
    written = {
        OURS: save_block(paths[dtype], block, scheme=dtype),
        INT8: save_block(paths["int8"], block),
        PUBLISHED: published.save(pickled, published.cache_of(network, prefix.ids)),
    }

    def from_file(scheme: Scheme) -> int:
        loaded = load_block(paths[scheme], model.key, model.capabilities.layers, dtype=network.dtype)
        assert isinstance(loaded, KVBlock), loaded
        return from_block(loaded)

    def from_block(held: KVBlock) -> int:
        composed = compose(model, [held], question)
        return model.complete(composed.rest, composed.prefix, max_new_tokens=1).ids[0]

    def from_pickle() -> int:
        return likeliest(published.answer(network, published.load(pickled), question))

    legs = {
        FULL: Leg(lambda: likeliest(published.full_prefill(network, (*prefix.ids, *question)))),
        FLOOR: Leg(lambda: likeliest(published.answer(network, published.over(prefix), question))),
        OURS: Leg(partial(from_file, dtype)),
        f"{OURS}, cold": Leg(partial(from_file, dtype), partial(drop_from_cache, paths[dtype])),
        INT8: Leg(partial(from_file, "int8")),
        f"{INT8}, cold": Leg(partial(from_file, "int8"), partial(drop_from_cache, paths["int8"])),
        f"{OURS}, in RAM": Leg(partial(from_block, block)),
        PUBLISHED: Leg(from_pickle),
        f"{PUBLISHED}, cold": Leg(from_pickle, partial(drop_from_cache, pickled)),
    }
    return legs, written


def likeliest(logits: Tensor) -> int:
    """The token that a greedy decoder takes next."""
    return int(logits[-1].argmax().item())
