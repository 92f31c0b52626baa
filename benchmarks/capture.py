"""Capturing conversations with the real embedder: turns a second, and vectors computed for each turn.

    python -m benchmarks.capture [--data FILE] [--model FOLDER] [--quick] [--json FILE]

Beside two floors in the same run, taking turns: the bare embedder over the same texts in the same
groups, and the engine's capture with a look-up in the embedder's place.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.dialogues import Session, read_sessions
from benchmarks.machine import ROOT, Machine, Row, write_results
from benchmarks.report import Ratio, print_ratios, print_table, quotient
from memos_engine import Embedder, FunctionEmbedder, MemOS, SentenceEmbedder
from tests.weights import minilm_folder

DATA = ROOT / "examples" / "data" / "conversation.jsonl"
VECTORS_TARGET = 3.0
QUICK_TURNS = 60
COLUMNS = ("system", "group", "turns", "turns_per_s", "ms_per_turn", "vectors_per_turn", "derived_per_turn")


class Counting:
    """An embedder that counts the vectors it was asked for."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.vectors = 0

    @property
    def fingerprint(self) -> str:
        """The embedder's own."""
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Count, and pass on."""
        self.vectors += len(texts)
        return self._embedder.embed(texts)


@dataclass(slots=True)
class Passes:
    """What several passes over the same sessions took."""

    seconds: list[float] = field(default_factory=list)
    vectors: int = 0
    """Of the last pass, as `derived`."""
    derived: int = 0


def captured(sessions: Sequence[Session], embedder: Embedder, passes: Passes) -> None:
    """Capture all sessions into a new root, a call a session."""
    counting = Counting(embedder)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        MemOS.open(folder, embedder=counting, background=False) as memos,
    ):
        cubes = {session.cube: memos.cube(session.cube) for session in sessions}
        start = time.perf_counter()
        done = [cubes[session.cube].capture(session.messages, thread=session.thread) for session in sessions]
        passes.seconds.append(time.perf_counter() - start)
    assert sum(result.new for result in done) == turns_of(sessions), "every turn is captured"
    passes.vectors = counting.vectors
    passes.derived = sum(len(result.derived) for result in done)


def embedded(sessions: Sequence[Session], embedder: Embedder, passes: Passes) -> None:
    """Embed each turn once, a call a session, and store nothing."""
    groups = [[f"{message.name}: {message.text}" for message in session.messages] for session in sessions]
    start = time.perf_counter()
    for texts in groups:
        embedder.embed(texts)
    passes.seconds.append(time.perf_counter() - start)
    passes.vectors = turns_of(sessions)


def turns_of(sessions: Sequence[Session]) -> int:
    """How many messages there are."""
    return sum(len(session.messages) for session in sessions)


def one_by_one(sessions: Sequence[Session]) -> list[Session]:
    """The same turns, each as a call of its own."""
    return [
        Session(session.cube, session.thread, (message,))
        for session in sessions
        for message in session.messages
    ]


def look_up() -> FunctionEmbedder:
    """An embedder that costs next to nothing: a row of a table, chosen by the text's hash."""
    rows = np.random.default_rng(1).standard_normal((1024, 384), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return FunctionEmbedder(
        lambda texts: rows[[hash(text) % len(rows) for text in texts]], fingerprint="look-up"
    )


def measured(sessions: Sequence[Session], group: str, embedder: Embedder, rounds: int) -> list[Row]:
    """One row a system, medians over the rounds."""
    runs: dict[str, tuple[Callable[[Sequence[Session], Embedder, Passes], None], Embedder]] = {
        "ours": (captured, embedder),
        "embedder floor": (embedded, embedder),
        "ours, look-up": (captured, look_up()),
    }
    passes = {name: Passes() for name in runs}
    for _ in range(rounds):
        for name, (run, by) in runs.items():
            run(sessions, by, passes[name])
    turns = turns_of(sessions)
    rows: list[Row] = [
        {
            "system": name,
            "group": group,
            "turns": turns,
            "turns_per_s": round(turns / median(taken.seconds), 1),
            "ms_per_turn": round(1000 * median(taken.seconds) / turns, 3),
            "vectors_per_turn": round(taken.vectors / turns, 3),
            "derived_per_turn": round(taken.derived / turns, 3),
        }
        for name, taken in passes.items()
    ]
    rows[1]["derived_per_turn"] = None
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 0 whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="benchmarks.capture", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="JSON Lines of turns, or LoCoMo's JSON")
    parser.add_argument("--model", type=Path, help="folder of a sentence model (default: the test weights)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round over a few sessions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    machine = Machine()
    sessions, rounds = read_sessions(options.data), options.rounds
    if options.quick:
        while turns_of(sessions[:-1]) >= QUICK_TURNS:
            sessions.pop()
        rounds = 1
    embedder = SentenceEmbedder(options.model or minilm_folder())
    embedder.embed(["loads the weights, outside of the measured time"])
    rows = [
        *measured(sessions, "session", embedder, rounds),
        *measured(one_by_one(sessions), "turn", embedder, rounds),
    ]
    print_table(rows, COLUMNS)
    ratios = []
    for ours, floor in ((rows[0], rows[1]), (rows[3], rows[4])):
        by = f"by {ours['group']}"
        vectors = ours["vectors_per_turn"]
        assert isinstance(vectors, float), "counted above"
        ratios += [
            Ratio(f"vectors per captured turn, {by}", vectors, VECTORS_TARGET),
            Ratio(
                f"turns/s / bare embedder's, {by}", quotient(ours["turns_per_s"], floor["turns_per_s"]), None
            ),
        ]
    print_ratios(ratios)
    print(machine.line())
    if options.json:
        write_results(options.json, machine, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
