"""The framework adapters: what they cost over the bare engine, and beside the frameworks' own stores.

    python -m benchmarks.adapters [--items 1000 10000 100000] [--sections ...] [--quick] [--json FILE]

* `overhead`: each adapter's call / (the engine's call + a no-op subclass of the same base), at the
  fewest items, where an engine's call is shortest.
* `stores`: MemosStore beside LangGraph's SqliteStore and InMemoryStore, at each number of items.
* `savers`: MemosSaver beside LangGraph's SqliteSaver, on a graph of 100 steps.
* `first-token`: what MemosMiddleware adds to the time until an agent's first token.

No model answers and none embeds: the embedder is a look-up. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.adapters.ground import Ground
from benchmarks.adapters.legs import Turns, overhead
from benchmarks.adapters.report import OVERHEAD_COLUMNS, Run, overhead_ratios
from benchmarks.machine import Row, write_results
from benchmarks.report import Ratio, print_ratios, print_table

FRAMEWORKS = ("langchain", "langgraph", "llamaindex", "hooks")
USER_ITEMS_MAX = 10_000
"""Of each user in the sections that have many users: overhead and first-token."""
ITEMS, QUICK_ITEMS = (1000, 10_000, 100_000), (1000,)
CALLS, QUICK_CALLS = 150, 15
WARM = 5
"""Calls of each leg before the measured ones."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    items: Sequence[int]
    calls: Turns
    """Of each leg of the sections that take turns call by call."""
    quick: bool
    """Stores and savers are measured less."""
    seed: int


@dataclass(frozen=True, slots=True)
class Results:
    """What a section found."""

    rows: list[Row]
    columns: Sequence[str]
    ratios: list[Ratio]


def measure_overhead(folder: Path, plan: Plan) -> Results:
    """Every adapter's calls beside what they are made of; a framework that is not installed is left out."""
    items = min(*plan.items, USER_ITEMS_MAX)
    rows: list[Row] = []
    with Ground(folder / "ground", items, plan.calls.all, plan.seed) as ground:
        for framework in FRAMEWORKS:
            start = time.perf_counter()
            try:
                module = importlib.import_module(f"benchmarks.adapters.{framework}_cases")
            except ImportError as exc:
                print(f"{framework} is left out: {exc}", file=sys.stderr)
                continue
            rows += [overhead(case, plan.calls, items) for case in module.cases(ground)]
            print(f"  overhead, {framework}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return Results(rows, OVERHEAD_COLUMNS, overhead_ratios(rows))


def measure_stores(folder: Path, plan: Plan) -> Results:
    """LangGraph's stores, at each number of items."""
    race = importlib.import_module("benchmarks.adapters.store_race")
    how = race.QUICK if plan.quick else race.FULL
    rows: list[Row] = []
    for items in plan.items:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            rows += race.StoreRace(items, how, Path(place) / "race", plan.seed).run()
    return Results(rows, race.COLUMNS, race.store_ratios(rows))


def measure_savers(folder: Path, plan: Plan) -> Results:
    """LangGraph's savers."""
    race = importlib.import_module("benchmarks.adapters.saver_race")
    rows = race.saver_rows(folder / "savers", race.QUICK if plan.quick else race.FULL)
    return Results(rows, race.COLUMNS, race.saver_ratios(rows))


def measure_first_token(folder: Path, plan: Plan) -> Results:
    """An agent's first token with memory and without."""
    agents = importlib.import_module("benchmarks.adapters.first_token")
    sizes = sorted({min(items, USER_ITEMS_MAX) for items in plan.items})
    rows = agents.first_token_rows(folder / "agents", sizes, plan.calls, plan.seed)
    return Results(rows, agents.COLUMNS, agents.first_token_ratios(rows))


SECTIONS: Mapping[str, Callable[[Path, Plan], Results]] = {
    "overhead": measure_overhead,
    "stores": measure_stores,
    "savers": measure_savers,
    "first-token": measure_first_token,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 0 whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="benchmarks.adapters", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--items", type=int, nargs="+", metavar="N",
        help="default: 1000 10000 100000; overhead takes the fewest, first-token those up to 10000",
    )  # fmt: skip
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--calls", type=int, metavar="N", help=f"of each leg (default: {CALLS})")
    parser.add_argument(
        "--quick", action="store_true", help="1000 items unless --items says otherwise, less of all"
    )
    parser.add_argument("--folder", type=Path, help="where to put the stores; a disk, not a RAM disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    calls = options.calls or (QUICK_CALLS if options.quick else CALLS)
    plan = Plan(
        options.items or (QUICK_ITEMS if options.quick else ITEMS),
        Turns(min(WARM, calls), calls),
        options.quick,
        options.seed,
    )
    machine, rows, ratios = Run(), list[Row](), list[Ratio]()
    print(f"{machine.line()}, fsync {machine.measure_disk(options.folder or Path(tempfile.gettempdir()))} ms")
    for section in options.sections:
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
                found = SECTIONS[section](Path(folder), plan)
        except ImportError as exc:
            print(f"{section} is left out: {exc}", file=sys.stderr)
            continue
        print(f"\n{section}, {time.perf_counter() - start:.0f} s")
        print_table(found.rows, found.columns)
        rows += found.rows
        ratios += found.ratios
    print()
    print_ratios(ratios)
    print(machine.line())
    if options.json:
        write_results(options.json, machine, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
