"""Results as people read them: a table, and ratios beside their targets. Pure but for printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.machine import Value


@dataclass(frozen=True, slots=True)
class Ratio:
    """One claim: a number that has to stay on its side of the target."""

    claim: str
    value: float | None
    """None: one of its parts was not measured."""
    target: float | None
    """None: reported only."""
    at_least: bool = False
    """True: higher is better, the target is a lower bound. Else an upper one."""

    @property
    def verdict(self) -> str:
        """PASS, MISS, or `-` when there is nothing to judge."""
        if self.value is None or self.target is None:
            return "-"
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "PASS" if met else "MISS"


def quotient(of: Value, by: Value) -> float | None:
    """`of` / `by`; None when either was not measured."""
    if not isinstance(of, int | float) or not isinstance(by, int | float) or not by:
        return None
    return of / by


def print_table(rows: Sequence[Mapping[str, Value]], columns: Sequence[str]) -> None:
    """Print rows under their columns' names; `-` stands for what is not applicable."""
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        first, *rest = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]))


def print_ratios(ratios: Sequence[Ratio]) -> None:
    """Print each claim with its value, its target and the verdict."""
    width = max((len(ratio.claim) for ratio in ratios), default=0)
    for ratio in ratios:
        value = "-" if ratio.value is None else f"{ratio.value:.3f}"
        sign = ">=" if ratio.at_least else "<="
        target = "no target" if ratio.target is None else f"{sign} {ratio.target:g}"
        print(f"{ratio.verdict:4}  {ratio.claim.ljust(width)}  {value:>8}  {target}")


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value
