"""Stores side by side: durable writes, search, recall, reopening, memory and disk. No embedding time.

    python -m benchmarks.store --items 1000 10000 100000 [--quick] [--json FILE]

Each system lives in its own process; all take turns, round by round. See docs/benchmarks.md for
what each number means.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.corpus import Corpus, make_corpus
from benchmarks.machine import Machine, Row, write_results
from benchmarks.report import Ratio, print_ratios, print_table, quotient
from benchmarks.worker import BATCH, Timed, Worker

SYSTEMS = {
    "ours": "ours",
    "ours+chroma": "ours_chroma",
    "SqliteStore": "langgraph_sqlite",
    "InMemoryStore": "langgraph_memory",
    "Chroma": "chroma",
    "sql floor": "sql_floor",
    "numpy floor": "numpy_floor",
}
NEEDS = {
    "SqliteStore": ("langgraph", "pysqlite3", "sqlite_vec"),
    "InMemoryStore": ("langgraph",),
    "Chroma": ("chromadb",),
}
"""Modules of the peers; one that cannot be installed everywhere is left out where it is not."""
METRICS = (
    "adds_per_s", "adds_one_per_s", "capture_ms_p50", "search_ms_p50", "search_ms_p95", "recall_ms_p50",
    "recall_ms_p95", "found", "reopen_s", "rss_mb", "rss_added_mb", "disk_mb", "drain_s",
)  # fmt: skip
SEARCH_TARGETS = ((100_000, 0.25), (10_000, 0.5), (1, 1.0))
"""From how many items on, at most what share of SqliteStore's search time."""
REOPEN_TARGET_FROM = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured at each size."""

    rounds: int
    queries: int
    """Searches, and as many recalls, a round."""
    ones: int
    """One-by-one adds, and as many captures, a round."""
    reopens: int
    seconds_max: float
    """A system that searches longer in a round is stopped: its median is of fewer queries."""


FULL = Plan(rounds=5, queries=60, ones=20, reopens=5, seconds_max=6.0)
QUICK = Plan(rounds=3, queries=20, ones=8, reopens=3, seconds_max=1.0)


@dataclass(slots=True)
class Measured:
    """What one system did, a list entry a round."""

    batches: list[Timed] = field(default_factory=list)
    ones: list[Timed] = field(default_factory=list)
    captures: list[Timed] = field(default_factory=list)
    searches: list[Timed] = field(default_factory=list)
    recalls: list[Timed] = field(default_factory=list)
    reopens: list[Timed] = field(default_factory=list)
    drain_s: float | None = None
    rss_mb: float = 0.0
    rss_before_mb: float = 0.0
    disk_mb: float = 0.0


class Race:
    """All systems at one size, in turns. `run` does everything."""

    def __init__(self, names: Sequence[str], items: int, plan: Plan, folder: Path, seed: int) -> None:
        self._items = items
        self._plan = plan
        self._folder = folder
        self._corpus = folder / "corpus"
        extra = 2 * plan.ones * plan.rounds
        queries = 2 * plan.queries * plan.rounds + plan.reopens + 1
        make_corpus(self._corpus, texts=items, extra=extra, queries=queries, seed=seed)
        self._queries = Corpus(self._corpus).queries
        self._workers = {name: self._worker(name) for name in names}
        self._measured = {name: Measured() for name in names}

    def run(self) -> list[Row]:
        """Measure, and give one row a system."""
        self._step("adding", self._add)
        self._step("draining", self._drain)
        self._step("searching", self._search)
        self._step("adding one by one", self._add_ones)
        self._step("closing", self._close)
        self._step("reopening", self._reopen)
        return [_row(name, self._items, measured) for name, measured in self._measured.items()]

    def _worker(self, name: str) -> Worker:
        return Worker(f"benchmarks.systems.{SYSTEMS[name]}", self._folder / SYSTEMS[name], self._corpus)

    def _able(self, ability: str) -> list[tuple[Worker, Measured]]:
        return [
            (worker, self._measured[name])
            for name, worker in self._workers.items()
            if ability in worker.abilities
        ]

    def _step(self, what: str, step: Callable[[], None]) -> None:
        start = time.perf_counter()
        step()
        print(f"  {self._items:,} items: {what} {time.perf_counter() - start:.1f} s", file=sys.stderr)

    def _add(self) -> None:
        rounds = self._plan.rounds
        edges = [self._items * n // rounds // BATCH * BATCH for n in range(rounds)] + [self._items]
        for start, stop in itertools.pairwise(edges):
            for worker, measured in self._able("add"):
                measured.batches.append(worker.add(start, stop))

    def _drain(self) -> None:
        """Only where it changes what a search does: the index."""
        if "ours+chroma" in self._workers:
            self._measured["ours+chroma"].drain_s = sum(self._workers["ours+chroma"].drain().seconds)

    def _search(self) -> None:
        warm, plan = self._queries[-1:], self._plan
        for worker, _ in self._able("search"):
            worker.search(warm, plan.seconds_max)
        for n in range(plan.rounds):
            asked = self._queries[2 * n * plan.queries : 2 * (n + 1) * plan.queries]
            for worker, measured in self._able("search"):
                measured.searches.append(worker.search(asked[::2], plan.seconds_max))
                if "recall" in worker.abilities:
                    measured.recalls.append(worker.recall(asked[1::2], plan.seconds_max))
        for worker, measured in self._able("add"):
            measured.rss_mb, measured.rss_before_mb = worker.rss_mb()

    def _add_ones(self) -> None:
        ones = self._plan.ones
        for n in range(self._plan.rounds):
            start = self._items + 2 * n * ones
            for worker, measured in self._able("add_one"):
                measured.ones.append(worker.add_one(start, start + ones))
            for worker, measured in self._able("capture"):
                measured.captures.append(worker.capture(start + ones, start + 2 * ones))

    def _close(self) -> None:
        for name, worker in self._workers.items():
            worker.close()
            self._measured[name].disk_mb = _disk_mb(self._folder / SYSTEMS[name])

    def _reopen(self) -> None:
        able = [name for name, worker in self._workers.items() if "reopen" in worker.abilities]
        for n in range(self._plan.reopens):
            query = self._queries[-2 - n][0]
            for name in able:
                worker = self._worker(name)
                self._measured[name].reopens.append(worker.open(query))
                worker.close()


def _row(name: str, items: int, measured: Measured) -> Row:
    searches, recalls = _milliseconds(measured.searches), _milliseconds(measured.recalls)
    return {
        "system": name,
        "items": items,
        "adds_per_s": _per_s(measured.batches, BATCH),
        "adds_one_per_s": _per_s(measured.ones, 1),
        "capture_ms_p50": _percentile(_milliseconds(measured.captures), 50),
        "search_ms_p50": _percentile(searches, 50),
        "search_ms_p95": _percentile(searches, 95),
        "recall_ms_p50": _percentile(recalls, 50),
        "recall_ms_p95": _percentile(recalls, 95),
        "searches": len(searches),
        "found": round(sum(t.found for t in measured.searches) / len(searches), 3) if searches else None,
        "reopen_s": _rounded(median(sum(t.seconds) for t in measured.reopens)) if measured.reopens else None,
        "rss_mb": round(measured.rss_mb, 1),
        "rss_added_mb": round(measured.rss_mb - measured.rss_before_mb, 1),
        "disk_mb": round(measured.disk_mb, 2) or None,
        "drain_s": _rounded(measured.drain_s),
    }


def _per_s(rounds: Sequence[Timed], size: int) -> float | None:
    """Texts a second: the median of the rounds, a round's slow moments (checkpoints) included."""
    rates = [size * len(timed.seconds) / sum(timed.seconds) for timed in rounds if timed.seconds]
    return round(median(rates), 1) if rates else None


def _milliseconds(rounds: Sequence[Timed]) -> list[float]:
    return [1000 * seconds for timed in rounds for seconds in timed.seconds]


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return _rounded(float(np.percentile(values, percent))) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _disk_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def ratios(rows: Sequence[Row]) -> list[Ratio]:
    """What the project claims of itself, at each size that was measured."""
    found = []
    for items in dict.fromkeys(row["items"] for row in rows):
        assert isinstance(items, int), "items is a count"
        by_name = {row["system"]: row for row in rows if row["items"] == items}
        empty: Row = {}
        floor, sqlite = by_name.get("sql floor", empty), by_name.get("SqliteStore", empty)
        search = next(target for least, target in SEARCH_TARGETS if items >= least)
        reopen = 3.0 if items >= REOPEN_TARGET_FROM else None
        for name in ("ours", "ours+chroma"):
            if name not in by_name:
                continue
            ours, at = by_name[name], f"{items:,} items, {name}:"
            parts = (
                ("search p50 / SqliteStore's", ours, "search_ms_p50", sqlite, "search_ms_p50", search, False),
                ("recall p50 / search p50", ours, "recall_ms_p50", ours, "search_ms_p50", 2.0, False),
                ("batched adds / SQL floor's", ours, "adds_per_s", floor, "adds_per_s", 0.5, True),
                ("capture p50 / floor's commit", ours, "capture_ms_p50", floor, "capture_ms_p50", 2.0, False),
                ("reopen + first recall / SQL read", ours, "reopen_s", floor, "reopen_s", reopen, False),
            )
            found += [
                Ratio(f"{at} {claim}", quotient(of.get(m), by.get(k)), target, at_least)
                for claim, of, m, by, k, target, at_least in parts
            ]
    return found


def available(names: Sequence[str]) -> list[str]:
    """Those of the systems whose modules are installed; the others are named on stderr."""
    missing = {
        name: [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
        for name in names
    }
    for name, modules in missing.items():
        if modules:
            print(f"{name} is left out: {', '.join(modules)} not installed", file=sys.stderr)
    return [name for name in names if not missing[name]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 0 whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--index-from", type=int, default=30_000, metavar="N",
        help="items from which ours+chroma takes part (default %(default)s, where the engine begins to index)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="1000 and 5000 items, less of everything")
    parser.add_argument("--folder", type=Path, help="where to put the stores; a disk, not a RAM disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    machine, rows = Machine(), list[Row]()
    systems = available(options.systems)
    plan = QUICK if options.quick else FULL
    print(f"{machine.line()}, fsync {machine.measure_disk(options.folder or Path(tempfile.gettempdir()))} ms")
    for items in [1000, 5000] if options.quick else options.items:
        names = [n for n in systems if n != "ours+chroma" or items >= options.index_from]
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
            rows += Race(names, items, plan, Path(folder), options.seed).run()
        print_table([row for row in rows if row["items"] == items], ["system", "items", *METRICS])
    print_ratios(ratios(rows))
    print(machine.line())
    if options.json:
        write_results(options.json, machine, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
