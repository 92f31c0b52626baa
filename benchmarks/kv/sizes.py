"""What a block takes on disk in each scheme, and what the rounding costs."""

from __future__ import annotations

import random
from statistics import fmean

from benchmarks.adapters.legs import rounded
from benchmarks.kv import published
from benchmarks.kv.divergence import kl
from benchmarks.kv.first_token import OURS
from benchmarks.kv.subjects import Ground
from benchmarks.machine import Row
from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import SCHEMES
from memos_engine.activation.values import KVBlock, Prefix

__all__ = ["size_rows"]

BLOCK_TOKENS, SHORT_TOKENS, QUERY_TOKENS = 1024, 257, 48
TEXT_TOKENS = 20_000


def size_rows(ground: Ground, count: int, seed: int) -> dict[str, Row]:
    """One row a scheme, and the project's claims: bytes of whole files, KL over what goes on behind them.

    A sample is a block of 1,024 tokens; queries go on behind it, or read a part of it again.
    """
    model, head = ground.model, ground.subject.head
    text = ground.text(TEXT_TOKENS)[len(head) :]
    draw = random.Random(seed)
    kls: dict[str, list[float]] = {scheme: [] for scheme in SCHEMES}
    sizes: dict[str, list[int]] = {scheme: [] for scheme in SCHEMES}
    short: dict[str, list[int]] = {scheme: [] for scheme in SCHEMES}
    for _ in range(count):
        at = draw.randrange(TEXT_TOKENS - BLOCK_TOKENS - QUERY_TOKENS)
        context = (*head, *text[at : at + BLOCK_TOKENS])
        again = draw.randrange(BLOCK_TOKENS - QUERY_TOKENS)
        queries = [text[at + BLOCK_TOKENS :][:QUERY_TOKENS], context[again:][:QUERY_TOKENS]]
        block = model.block(context)
        expected = [
            published.full_prefill(model.network, (*context, *query), keep=len(query)) for query in queries
        ]
        small = model.block(context[1:SHORT_TOKENS], context[:1])
        for scheme in SCHEMES:
            path = ground.folder / f"{scheme}.block"
            short[scheme].append(save_block(path, small, scheme=scheme))
            sizes[scheme].append(save_block(path, block, scheme=scheme))
            kept = load_block(path, model.key, model.capabilities.layers, dtype=model.network.dtype)
            assert isinstance(kept, KVBlock), kept
            prefix = Prefix(kept.ids, kept.layers)
            kls[scheme].append(
                fmean(
                    float(kl(there, model.logits(query, prefix)).mean())
                    for there, query in zip(expected, queries, strict=True)
                )
            )
    rows: dict[str, Row] = {
        f"file, {scheme}": {
            "files": count,
            "bytes_per_token": round(fmean(sizes[scheme]) / (BLOCK_TOKENS + len(head))),
            "to_bfloat16": rounded(sum(sizes[scheme]) / sum(sizes["bfloat16"])),
            "to_bfloat16_256": rounded(sum(short[scheme]) / sum(short["bfloat16"])),
            "rounding_kl": rounded(fmean(kls[scheme])),
        }
        for scheme in SCHEMES
    }
    rows[OURS] = {
        "int8_bytes_ratio": rows["file, int8"]["to_bfloat16"],
        "int8_bytes_ratio_256": rows["file, int8"]["to_bfloat16_256"],
        "int8_kl": rows["file, int8"]["rounding_kl"],
    }
    return rows
