"""Rows of all sections as tables and claims; which frameworks they were measured with."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence

from benchmarks.adapters.legs import OVERHEAD_TARGET
from benchmarks.machine import Machine, Row
from benchmarks.report import Ratio

PACKAGES = (
    "langchain", "langchain-classic", "langchain-core", "llama-index-core",
)  # fmt: skip
"""Beside those that every benchmark names."""
OVERHEAD_COLUMNS = (
    "system", "mode", "items", "adapter_ms_p50", "bare_ms_p50", "floor_ms_p50", "ratio", "adapter_cpu_ms_p50",
    "bare_cpu_ms_p50", "floor_cpu_ms_p50", "cpu_ratio",
)  # fmt: skip


class Run(Machine):
    """The machine, and the versions of the frameworks on it."""

    def facts(self) -> dict[str, object]:
        """The machine's, with the frameworks among its packages."""
        facts = super().facts()
        packages = facts["packages"]
        assert isinstance(packages, dict), "versions by name"
        installed = {each.name for each in importlib.metadata.distributions()}
        versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}
        return facts | {
            "command": " ".join(["python -m benchmarks.adapters", *sys.argv[1:]]),
            "packages": packages | versions,
        }


def overhead_ratios(rows: Sequence[Row]) -> list[Ratio]:
    """What each adapter's call costs of the bare engine's call and the framework's own part together."""
    return [
        Ratio(f"{row['system']}, {row['mode']} / (bare + floor)", _number(row, "ratio"), OVERHEAD_TARGET)
        for row in rows
    ]


def _number(row: Row, metric: str) -> float | None:
    value = row[metric]
    return float(value) if isinstance(value, int | float) else None
