"""Where a result was measured, and the one file format of results. Knows no benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TypeAlias

Value: TypeAlias = str | int | float | None
Row: TypeAlias = dict[str, Value]
"""One result: `system` and flat metrics, each with its unit in its name. None: not applicable."""

FSYNCS = 60
ROOT = Path(__file__).parent.parent
PACKAGES = (
    "apsw-sqlite3mc", "chromadb", "langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite", "numpy",
    "onnxruntime", "pydantic", "pysqlite3", "sqlite-vec", "torch",
)  # fmt: skip


class Machine:
    """The machine as it is while a benchmark runs: made at its start, asked at its end."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)
        self._load = _load()
        self._fsync_ms: float | None = None

    def facts(self) -> dict[str, object]:
        """What there is to know of it, as JSON."""
        return {
            "date": self._started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._started).total_seconds()),
            "commit": _commit(),
            "command": " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
            "cpu": _cpu(),
            "cores": _cores(),
            "memory_gb": _memory_gb(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "packages": _versions(),
            "fsync_ms": self._fsync_ms,
            "load_start": self._load,
            "load_end": _load(),
        }

    def measure_disk(self, folder: Path) -> float:
        """Milliseconds of an `fsync` after 4 kB, the median of many: what a durable commit costs at the least."""
        with tempfile.TemporaryFile(dir=folder) as file:
            seconds = []
            for _ in range(FSYNCS):
                file.write(bytes(4096))
                file.flush()
                start = time.perf_counter()
                os.fsync(file.fileno())
                seconds.append(time.perf_counter() - start)
        self._fsync_ms = round(1000 * median(seconds), 3)
        return self._fsync_ms

    def line(self) -> str:
        """The machine in one line, its load now included."""
        return (
            f"{_cpu()}, {_cores()} cores, {_memory_gb()} GB, Python {platform.python_version()}, "
            f"commit {_commit()}, load {_shown(self._load)} at start, {_shown(_load())} now"
        )


def write_results(path: Path, machine: Machine, results: Sequence[Mapping[str, Value]]) -> None:
    """Write `{"machine": {...}, "results": [...]}` to `path`, in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.facts(), "results": [dict(row) for row in results]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _load() -> list[float] | None:
    """Load averages over 1, 5 and 15 minutes. None where the system keeps none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _shown(load: list[float] | None) -> str:
    return "unknown" if load is None else f"{load[0]:.2f}"


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> int | None:
    """Physical memory, rounded. None where it cannot be asked for without a package."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def _cpu() -> str:
    """The processor's model, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, `+` when there are changes on top. `none` before the first or outside of git."""
    if not (ROOT / ".git").exists():
        return "none"
    head = _git("rev-parse", "--short=12", "--verify", "--quiet", "HEAD")
    return (head or "none") + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 -- the user's own git, found as he finds it
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
