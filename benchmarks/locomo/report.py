"""Outcomes as rows, tables and claims; what a run was of. Knows no system but by its name."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.locomo.data import CATEGORIES
from benchmarks.locomo.judging import COVERAGE_BUDGET, Judged, Outcome
from benchmarks.locomo.scoring import HIT_RANK, auroc
from benchmarks.machine import Machine, Row, Value
from benchmarks.report import Ratio, print_ratios, print_table, quotient

HEADLINE = "recall@1000tok"
COVERAGE = f"answer_coverage@{COVERAGE_BUDGET}tok"
ABSTAIN = ("abstain_auroc", "abstain_auroc_renamed", "abstain_auroc_adversarial")
BASELINES = ("bm25", "dense", "rrf", "window blend")
BY_HIT = "_by_hit"
"""Suffix of metrics over hits as they are: ten windows hold more than ten turns."""
RECALL_TARGETS = {HEADLINE: 0.87, "recall@2000tok": 0.92}
ABSTAIN_TARGET = 0.92
PACKAGES = ("bm25s", "bpe-openai", "snowballstemmer")


class Run(Machine):
    """The machine, and which data were measured on it."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data

    def facts(self) -> dict[str, object]:
        """The machine's; the data by name and checksum, never by content."""
        facts = super().facts()
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        packages = facts["packages"]
        assert isinstance(packages, dict), "versions by name"
        return facts | {
            "command": " ".join(["python -m benchmarks.locomo", *map(self._public, sys.argv[1:])]),
            "packages": packages | versions,
            "data": self._data.name,
            "data_sha256": hashlib.sha256(self._data.read_bytes()).hexdigest(),
        }

    def _public(self, argument: str) -> str:
        """An argument as it may be published: the data by name, whatever folder they lie in."""
        return self._data.name if argument == str(self._data) else argument


def rows_of(outcomes: Mapping[str, Outcome], budgets: Sequence[int]) -> list[Row]:
    """One row a system."""
    return [_row(name, outcome, budgets) for name, outcome in outcomes.items()]


def _row(name: str, outcome: Outcome, budgets: Sequence[int]) -> Row:
    row: Row = {"system": name, "questions": len(outcome.judged), **_metrics(outcome.judged, budgets)}
    place = budgets.index(COVERAGE_BUDGET)
    row[f"{HEADLINE}_se"] = _standard_error([judged.recalls[place] for judged in outcome.judged])
    sure = outcome.sure
    negatives = (sure.foreign, sure.renamed, sure.adversarial) if sure else ([], [], [])
    for metric, scores in zip(ABSTAIN, negatives, strict=True):
        row[metric] = _rounded(auroc(sure.known, scores) if sure else None)
    seconds = [taken for budget, taken in outcome.recalls if budget == COVERAGE_BUDGET]
    for percent in (50, 95):
        row[f"recall_ms_p{percent}"] = (
            _rounded(1000 * float(np.percentile(seconds, percent))) if seconds else None
        )
    for category, called in CATEGORIES.items():
        judged = [one for one in outcome.judged if one.category == category]
        row[f"questions_{called}"] = len(judged)
        row.update({f"{metric}_{called}": value for metric, value in _metrics(judged, budgets).items()})
    return row


def _metrics(judged: Sequence[Judged], budgets: Sequence[int]) -> Row:
    """Means over questions."""
    recalls = {
        f"recall@{budget}tok": _mean([one.recalls[place] for one in judged])
        for place, budget in enumerate(budgets)
    }
    return {
        **recalls,
        COVERAGE: _mean([one.coverage for one in judged if one.coverage is not None]),
        **_rank_metrics([one.rank for one in judged], ""),
        **_rank_metrics([one.hit_rank for one in judged], BY_HIT),
    }


def _rank_metrics(ranks: Sequence[int | None], suffix: str) -> Row:
    return {
        f"mrr{suffix}": _mean([1 / rank if rank else 0.0 for rank in ranks]),
        f"hit@{HIT_RANK}{suffix}": _mean([float(rank is not None and rank <= HIT_RANK) for rank in ranks]),
    }


def show(rows: Sequence[Row], budgets: Sequence[int]) -> None:
    """Print the tables and the claims."""
    recalls = [f"recall@{budget}tok" for budget in budgets]
    print_table(rows, ["system", "questions", *recalls, COVERAGE])
    print("\nranks")
    print_table(rows, ["system", "mrr", f"hit@{HIT_RANK}", f"mrr{BY_HIT}", f"hit@{HIT_RANK}{BY_HIT}"])
    for metric in (HEADLINE, COVERAGE):
        print(f"\n{metric} by category")
        by_category: list[Row] = [
            {"system": row["system"], **{name: row[f"{metric}_{name}"] for name in CATEGORIES.values()}}
            for row in rows
        ]
        print_table(by_category, ["system", *CATEGORIES.values()])
    print("\nabstention, and a recall's time without embedding")
    timed = [row for row in rows if row["abstain_auroc_adversarial"] is not None or row["recall_ms_p50"]]
    print_table(timed, ["system", *ABSTAIN, "recall_ms_p50", "recall_ms_p95"])
    print()
    print_ratios(claims(rows))


def claims(rows: Sequence[Row]) -> list[Ratio]:
    """What the project claims of itself."""
    by_name = {row["system"]: row for row in rows}
    ours = by_name["ours"]

    def best(metric: str) -> Value:
        values = (by_name[name][metric] for name in BASELINES)
        return max((value for value in values if isinstance(value, int | float)), default=None)

    recalls = [
        Ratio(f"{metric}, ours", _number(ours[metric]), target, at_least=True)
        for metric, target in RECALL_TARGETS.items()
    ]
    against = [
        Ratio(f"{metric} / best baseline's", quotient(ours[metric], best(metric)), 1.0, at_least=True)
        for metric in (HEADLINE, COVERAGE)
    ]
    first, second, third = ABSTAIN
    return [
        *recalls,
        *against,
        Ratio(f"{first}, ours", _number(ours[first]), ABSTAIN_TARGET, at_least=True),
        Ratio(f"{second} / best raw score's", quotient(ours[second], best(second)), 1.0, at_least=True),
        Ratio(f"{third} / best raw score's", quotient(ours[third], best(third)), None, at_least=True),
    ]


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(fmean(values)) if values else None


def _standard_error(values: Sequence[float]) -> float | None:
    return _rounded(float(np.std(values, ddof=1)) / len(values) ** 0.5) if len(values) > 1 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
