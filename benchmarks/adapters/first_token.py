"""What memory adds to the time until an agent's first token, beside the bare recall.

The model begins to stream 20 ms after it is called. Captures come after the last token, so they add nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware
from langchain_core.messages import HumanMessage

from benchmarks.adapters.bare import Bare
from benchmarks.adapters.fake_model import FakeModel
from benchmarks.adapters.ground import Ground
from benchmarks.adapters.langchain_floors import NoMiddleware
from benchmarks.adapters.legs import MODES, Call, Mode, Turns, composed, in_turns, milliseconds, rounded
from benchmarks.machine import Row
from benchmarks.report import Ratio, quotient
from memos_adapters.langchain import MemosMiddleware

FIRST_TOKEN_S = 0.02
ANSWER = "That is what was said about it, and nothing else is known of it here."
COLUMNS = (
    "system", "mode", "items", "without_ms_p50", "no_op_ms_p50", "with_ms_p50", "added_ms_p50", "recall_ms_p50",
    "added_over_recall_ms",
)  # fmt: skip


def first_token_rows(folder: Path, sizes: Sequence[int], turns: Turns, seed: int) -> list[Row]:
    """One row a size and mode."""
    rows = []
    for items in sizes:
        with Ground(folder / f"{items}", items, turns.all, seed) as ground:
            rows += [_row(ground, mode, turns) for mode in MODES]
    return rows


def _row(ground: Ground, mode: Mode, turns: Turns) -> Row:
    user = f"asks {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")
    ours: MemosMiddleware[Any] = MemosMiddleware(ground.memos, user_id=user, strict=True)
    spent = in_turns(
        [
            {"without": _streaming(ground, mode)},
            {"no-op": _streaming(ground, mode, NoMiddleware())},
            {"with": _streaming(ground, mode, ours)},
            {"recall": composed(mode, bare.recall)},
        ],
        turns,
        mode,
    )
    wall = {name: median(each.wall_s) for name, each in spent.items()}
    added = wall["with"] - wall["without"]
    return {
        "section": "first token",
        "system": "MemosMiddleware",
        "mode": mode,
        "items": ground.items,
        "without_ms_p50": milliseconds(wall["without"]),
        "no_op_ms_p50": milliseconds(wall["no-op"]),
        "with_ms_p50": milliseconds(wall["with"]),
        "added_ms_p50": milliseconds(added),
        "recall_ms_p50": milliseconds(wall["recall"]),
        "added_over_recall_ms": milliseconds(added - wall["recall"]),
        "ratio": rounded(added / wall["recall"]),
    }


def _streaming(ground: Ground, mode: Mode, *middleware: AgentMiddleware[Any, Any, Any]) -> Call:
    """A turn of an agent that returns the seconds until its first token; the rest is read, and not timed."""
    agent = create_agent(FakeModel(answer=ANSWER, first_token_s=FIRST_TOKEN_S), middleware=middleware)

    def streaming(n: int) -> dict[str, Any]:
        asked = HumanMessage(ground.question(n), id=f"question-{n}")
        return {
            "input": {"messages": [asked]},
            "context": {"session_id": f"session-{n}"},
            "stream_mode": "messages",
        }

    def stream(n: int) -> float:
        start = time.perf_counter()
        tokens = _first_at(agent.stream(**streaming(n)))
        return tokens - start

    async def astream(n: int) -> float:
        start, first = time.perf_counter(), 0.0
        async for chunk, _ in agent.astream(**streaming(n)):
            if not first and chunk.content:
                first = time.perf_counter()
        return first - start

    return astream if mode == "async" else stream


def _first_at(stream: Iterator[Any]) -> float:
    """When the first token came."""
    first = 0.0
    for chunk, _ in stream:
        if not first and chunk.content:
            first = time.perf_counter()
    return first


def first_token_ratios(rows: Sequence[Row]) -> list[Ratio]:
    """What the middleware adds, of a bare recall."""
    return [
        Ratio(
            f"{row['items']:,} items, {row['mode']}, added to the first token / recall",
            quotient(row["added_ms_p50"], row["recall_ms_p50"]),
            None,
        )
        for row in rows
    ]
