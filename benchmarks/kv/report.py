"""Rows of all sections as one row a system and model, as tables and as claims; what a run was of."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kv.first_token import INT8, OURS
from benchmarks.machine import Machine, Row
from benchmarks.report import Ratio, print_table, quotient

__all__ = ["CLAIMED", "Run", "claims", "merged", "show"]

PACKAGES = ("safetensors", "transformers")
CLAIMED = (
    "max_logit_diff", "ttft_speedup_512", "ttft_speedup_2k", "ttft_speedup_8k", "kl_ratio_rerotated",
    "kl_recomputed", "int8_bytes_ratio", "int8_kl", "answer_agreement",
)  # fmt: skip
"""Every row of `ours` has them; None where they were not measured."""
LEADING: Mapping[str, tuple[str, ...]] = {
    "exact": (
        "max_logit_diff", "prefix_kl", "same_answer", "queries", "repeat_logit_diff", "repeat_kl",
    ),
    "ttft": ("ttft_ms", "ttft_cpu_ms", "ttft_speedup", "ttft_speedup_cpu", "to_floor", "same_token", "file_mb"),
    "compose": (
        "kl", "kl_low", "kl_high", "kl_ratio", "kl_ratio_low", "kl_ratio_high", "kl_last_token", "top1",
        "ttft_ms_composed", "composed_speedup", "composed_speedup_cpu",
    ),
    "codec": ("bytes_per_token", "to_bfloat16", "to_bfloat16_256", "rounding_kl"),
    "answers": (
        "answer_agreement", "answer_agreement_low", "answer_agreement_high", "answer_prefix",
        "answer_first_token", "questions",
    ),
    "device": ("ttft_ms", "ttft_speedup", "roofline_ms", "to_roofline", "methods", "engine_saves_ms", "engine_keeps"),
}  # fmt: skip
"""Columns of the printed tables; those of times stand there once for each size."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """One number of one system's row, and its target for models of full attention and of windows."""

    told: str
    system: str
    metric: str
    full: float | None
    windows: float | None
    at_least: bool = False
    unit: float = 1.0
    """The number is told in multiples of it."""


CLAIMS = (
    _Claim("saved prefix, max logit difference / 1e-4", OURS, "max_logit_diff", 1, 1, unit=1e-4),
    _Claim("saved prefix, answers equal", OURS, "same_answer", 1, 1, at_least=True),
    _Claim("a query again after all others, logit difference", OURS, "repeat_logit_diff", 0, 0),
    *(
        _Claim(
            f"{told}, {size} tokens, full prefill / TTFT", system, f"ttft_speedup_{size}", target, None,
            at_least=True,
        )
        for told, system, targets in (("float32 file", OURS, (9, 30, 85)), ("int8 file", INT8, (8, 25, 55)))
        for size, target in zip(("512", "2k", "8k"), targets, strict=True)
    ),
    *(
        _Claim(f"float32 file, {size} tokens, TTFT / cache in RAM", OURS, f"to_floor_{size}", 1.1, 1.1)
        for size in ("512", "2k", "8k")
    ),
    _Claim("re-rotated, KL / plain concatenation's", OURS, "kl_ratio_rerotated", 0.30, 0.03),
    _Claim("15 % recomputed, KL / plain concatenation's", OURS, "kl_recomputed", 0.20, 0.01),
    _Claim(
        "15 % recomputed, full prefill / TTFT", OURS, "kl_recomputed_speedup", 2.5, 2.5, at_least=True
    ),
    _Claim("int8 bytes / bfloat16's", OURS, "int8_bytes_ratio", 0.53, 0.53),
    _Claim("int8, KL / 1e-4", OURS, "int8_kl", 1, 1, unit=1e-4),
)  # fmt: skip


class Run(Machine):
    """The machine, and which data were measured on it."""

    def __init__(self, data: Path | None) -> None:
        super().__init__()
        self._data = data

    def facts(self) -> dict[str, object]:
        """The machine's; a file of data by name and checksum, never by content."""
        facts = super().facts()
        packages = facts["packages"]
        assert isinstance(packages, dict), "versions by name"
        data = self._data
        told = {} if data is None else {"data": data.name, "data_sha256": _sha256(data)}
        return (
            facts
            | told
            | {
                "command": " ".join(["python -m benchmarks.kv", *map(self._public, sys.argv[1:])]),
                "packages": packages | {name: importlib.metadata.version(name) for name in PACKAGES},
            }
        )

    def _public(self, argument: str) -> str:
        """An argument as it may be published: paths by their last name."""
        return Path(argument).name if Path(argument).is_absolute() else argument


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def merged(model: str, found: Sequence[Mapping[str, Row]]) -> list[Row]:
    """One row a system: what all sections found of it."""
    rows: dict[str, Row] = {}
    for section in found:
        for system, row in section.items():
            rows.setdefault(system, {"system": system, "model": model}).update(row)
    if OURS in rows:
        rows[OURS] = {"system": OURS, "model": model} | dict.fromkeys(CLAIMED) | rows[OURS]
    return list(rows.values())


def show(section: str, found: Mapping[str, Row], sizes: Sequence[str]) -> None:
    """Print a section's table: the columns that any row has."""
    rows: list[Row] = [{"system": system, **row} for system, row in found.items()]
    wanted = [name for stem in LEADING[section] for name in (stem, *(f"{stem}_{size}" for size in sizes))]
    columns = [name for name in wanted if any(name in row for row in rows)]
    print_table([row for row in rows if any(name in row for name in columns)], ("system", *columns))


def claims(model: str, rows: Sequence[Row], *, full_attention: bool, judged: bool) -> list[Ratio]:
    """What the project claims of itself, as far as it was measured.

    Args:
        judged: The weights are real: targets hold.
    """
    by_system = {row["system"]: row for row in rows}
    told = []
    for claim in CLAIMS:
        value = by_system.get(claim.system, {}).get(claim.metric)
        if not isinstance(value, int | float):
            continue
        target = claim.full if full_attention else claim.windows
        told.append(
            Ratio(f"{model}: {claim.told}", value / claim.unit, target if judged else None, claim.at_least)
        )
    ours = by_system.get(OURS, {})
    if ours.get("answer_agreement") is not None:
        ratio = quotient(ours["answer_agreement"], ours["answer_agreement_rerotated"])
        told.append(
            Ratio(f"{model}: equal answers, auto / re-rotated", ratio, 1 if judged else None, at_least=True)
        )
    return told
