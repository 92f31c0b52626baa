"""What an import costs: the engine's, beside that of what it stands on, each time in a fresh interpreter.

    python -m benchmarks.imports [--rounds 21] [--json FILE]

The three take turns. The exit status is 1 when an import loads a framework, torch or chromadb.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import ROOT, Machine, Row, write_results
from benchmarks.report import Ratio, print_ratios, print_table, quotient

FLOOR = "numpy + pydantic + apsw"
STATEMENTS = {
    FLOOR: "import numpy, pydantic, apsw",
    "memos_engine": "import memos_engine",
    "MemOS": "from memos_engine import MemOS",
}
UNWANTED = ("torch", "chromadb", "langchain_core", "langgraph", "llama_index", "onnxruntime", "transformers")
TARGET = 1.5
ROUNDS_MIN = 15

_PROGRAM = """
import json, sys, time
cpu, start = time.process_time(), time.perf_counter()
{statement}
cpu, wall = time.process_time() - cpu, time.perf_counter() - start
print(json.dumps([1000 * wall, 1000 * cpu, len(sys.modules), sorted(set({unwanted!r}) & set(sys.modules))]))
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One import in a new interpreter."""

    wall_ms: float
    cpu_ms: float
    modules: int
    """Loaded when it is done."""
    unwanted: list[str]
    """Those among them that should not be."""


def imported(statement: str, bytecode: str) -> Import:
    """Run a statement in a new interpreter.

    Args:
        statement: What to import.
        bytecode: A folder for compiled modules: a checkout, or an environment variable, may forbid them.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    program = _PROGRAM.format(statement=statement, unwanted=UNWANTED)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, check=True, text=True
    )
    return Import(*json.loads(done.stdout))


def measured(rounds: int) -> tuple[list[Row], list[str]]:
    """One row a statement, and every module that should not have been loaded."""
    runs: dict[str, list[Import]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory(prefix="bench-") as bytecode:
        for statement in STATEMENTS.values():
            imported(statement, bytecode)  # compiles, and fills the file cache
        for _ in range(rounds):
            for name, statement in STATEMENTS.items():
                runs[name].append(imported(statement, bytecode))
    rows: list[Row] = [
        {
            "system": name,
            "import_ms_p50": round(median(run.wall_ms for run in done), 1),
            "import_cpu_ms_p50": round(median(run.cpu_ms for run in done), 1),
            "modules": done[-1].modules,
        }
        for name, done in runs.items()
    ]
    unwanted = {f"{name} loads {module}" for name, done in runs.items() for module in done[-1].unwanted}
    return rows, sorted(unwanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.imports", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help=f"at least {ROUNDS_MIN} (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    machine = Machine()
    rows, unwanted = measured(max(options.rounds, ROUNDS_MIN))
    print_table(rows, ["system", "import_ms_p50", "import_cpu_ms_p50", "modules"])
    floor, *ours = rows
    print_ratios(
        [
            Ratio(f"import {row['system']} / {FLOOR}, {what}", quotient(row[metric], floor[metric]), TARGET)
            for row in ours
            for what, metric in (("wall", "import_ms_p50"), ("CPU", "import_cpu_ms_p50"))
        ]
    )
    print("\n".join(unwanted) or f"none of them loads {', '.join(UNWANTED)}")
    print(machine.line())
    if options.json:
        write_results(options.json, machine, rows)
    return 1 if unwanted else 0


if __name__ == "__main__":
    sys.exit(main())
