"""Recall against budget, drawn from the results of `benchmarks.locomo` with several `--budgets`.

    python -m benchmarks.plots RESULT.json --out FILE.svg

The same results give the same file, byte for byte, under one version of matplotlib.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_RECALL = re.compile(r"recall@(\d+)tok")
OURS = "ours"
LABELS = {
    "ours": "memos_engine, recall",
    "ours ranked": "memos_engine, ranked lines only",
    "bm25": "BM25",
    "dense": "cosine",
    "rrf": "BM25 + cosine, by rank",
    "window blend": "BM25 + cosine, by score, windows of 4 turns",
}
COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#cc79a7", "#999999", "#009e73")
"""Okabe and Ito's, told apart by the colour-blind too."""
MARKERS = "oos^Dv"


@dataclass(frozen=True, slots=True)
class Curve:
    """One system's recall at rising budgets."""

    system: str
    budgets: tuple[int, ...]
    """Tokens."""
    recalls: tuple[float, ...]
    """0..1."""


def read_curves(path: Path) -> list[Curve]:
    """The curves in a file of results, in its order; an ablation's variants are left out.

    Raises:
        ValueError: a system was measured at one budget only, or at none.
    """
    curves = []
    for row in json.loads(path.read_text(encoding="utf-8"))["results"]:
        if str(row["system"]).startswith("without "):
            continue
        points = sorted(
            (int(match[1]), float(row[match[0]])) for match in map(_RECALL.fullmatch, row) if match
        )
        if len(points) < 2:
            raise ValueError(
                f"{path} tells recall of {row['system']!r} at {len(points)} budgets: run benchmarks.locomo "
                "with --budgets 250 4000 --json"
            )
        curves.append(Curve(row["system"], tuple(b for b, _ in points), tuple(r for _, r in points)))
    return curves


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the plot to `path`, in place of what is there."""
    with rc_context():
        rcParams.update({"font.size": 12, "axes.spines.right": False, "axes.spines.top": False})
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recall"})
        figure = Figure(figsize=(8, 5), layout="constrained", facecolor="white")
        axes = figure.subplots()
        assert isinstance(axes, Axes), "one plot"
        for n, curve in enumerate(curves):
            ours = curve.system == OURS
            axes.plot(
                curve.budgets, curve.recalls, label=LABELS.get(curve.system, curve.system),
                color=COLOURS[n % len(COLOURS)], marker=MARKERS[n % len(MARKERS)],
                markersize=6 if ours else 5, linewidth=3 if ours else 1.5, zorder=3 if ours else 2,
            )  # fmt: skip
        axes.set_xlabel("budget of the context, tokens (cl100k)")
        axes.set_ylabel("evidence recall")
        axes.set_xlim(left=0)
        axes.set_ylim(top=1.0)
        axes.set_xticks(sorted({budget for curve in curves for budget in curve.budgets if budget >= 500}))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="lower right", frameon=True, facecolor="white", edgecolor="none")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the plot."""
    parser = argparse.ArgumentParser(prog="benchmarks.plots", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULT.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    options = parser.parse_args(arguments)
    draw(read_curves(options.results), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
