"""Activation memory on a local model: exact, fast, composable, small; beside full prefill and the published method.

    python -m benchmarks.kv [--models smollm2 gemma PATH] [--data FILE] [--sections ...] [--quick] [--json FILE]

* `exact`: a saved and loaded prefix beside reading it again; the hundredth query beside the first.
* `ttft`: time to the first token over 512, 2k and 8k tokens of memory, one thread.
* `compose`: three memories of 256 tokens, KL divergence from reading them at once, and time.
* `codec`: bytes and rounding of int8.
* `answers`: greedy answers over composed memories beside those of full prefill.

With `--shape 8b --device cuda` a random model of that shape is timed on an accelerator, and nothing else.
See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.kv.answers import answer_rows
from benchmarks.kv.composing import composing_rows
from benchmarks.kv.exactness import exactness_rows
from benchmarks.kv.first_token import Sizes, first_token_rows
from benchmarks.kv.on_device import on_device_rows
from benchmarks.kv.report import Run, claims, merged, show
from benchmarks.kv.sizes import size_rows
from benchmarks.kv.subjects import NAMES, SHAPES, Ground, Subject, shaped, subject
from benchmarks.kv.text import Talk, documents, draw_samples, questions_of, read_talks
from benchmarks.machine import Row, write_results
from benchmarks.report import Ratio, print_ratios

TOKENS = {"512": 512, "2k": 2048, "8k": 8192}
"""Of a memory; the longest leaves room for the question where the context ends."""
DEVICE_TOKENS = {"1k": 1024, "8k": 8192, "32k": 32_768}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    sizes: Sizes
    device_sizes: Sizes
    queries: int
    """Of one block before the first is asked again."""
    samples: int
    timed: int
    """Samples on which composing is timed."""
    files: int
    """Samples of the codec."""
    questions: int
    seed: int


def plan_of(options: argparse.Namespace) -> Plan:
    """The full plan or the quick one."""
    quick: bool = options.quick
    names = ("512", "2k") if quick else tuple(TOKENS)
    rounds = {name: 3 if quick or name in ("8k", "32k") else 7 for name in (*TOKENS, *DEVICE_TOKENS)}
    on_device = ("1k",) if quick else tuple(DEVICE_TOKENS)
    return Plan(
        sizes=Sizes({name: TOKENS[name] for name in names}, rounds),
        device_sizes=Sizes({name: DEVICE_TOKENS[name] for name in on_device}, rounds),
        queries=9 if quick else 99,
        samples=options.samples or (4 if quick else 16),
        timed=2 if quick else 6,
        files=2 if quick else 6,
        questions=options.questions or (6 if quick else 64),
        seed=options.seed,
    )


def measure_exact(ground: Ground, plan: Plan) -> dict[str, Row]:
    """A saved prefix beside full prefill."""
    return exactness_rows(ground, (300, 1200), plan.queries)


def measure_ttft(ground: Ground, plan: Plan) -> dict[str, Row]:
    """Time to the first token."""
    return first_token_rows(ground, plan.sizes)


def measure_compose(ground: Ground, plan: Plan) -> dict[str, Row]:
    """Three memories of 256 tokens."""
    docs = documents(ground.talks, ground.model.encode)
    drawn = draw_samples(docs, plan.samples, head=ground.subject.head, seed=plan.seed)
    return composing_rows(ground.model, drawn, timed=plan.timed, tell=_tell)


def measure_codec(ground: Ground, plan: Plan) -> dict[str, Row]:
    """Blocks of 1,024 tokens, and their sizes at 256."""
    return size_rows(ground, plan.files, plan.seed)


def measure_answers(ground: Ground, plan: Plan) -> dict[str, Row]:
    """Greedy answers."""
    return answer_rows(ground.subject, questions_of(ground.talks, plan.questions, seed=plan.seed), _tell)


SECTIONS: Mapping[str, Callable[[Ground, Plan], dict[str, Row]]] = {
    "exact": measure_exact,
    "ttft": measure_ttft,
    "compose": measure_compose,
    "codec": measure_codec,
    "answers": measure_answers,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 0 whatever the ratios are."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    run, plan = Run(options.data), plan_of(options)
    print(run.line())
    rows: list[Row] = []
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        if options.shape:
            rows += _on_device(shaped(options.shape, options.device), plan, Path(folder))
        else:
            talks = read_talks(options.data)
            for name in options.models:
                found, told = _measured(name, options, talks, plan, Path(folder))
                rows += found
                ratios += told
    print()
    print_ratios(ratios)
    print(run.line())
    if options.json:
        write_results(options.json, run, rows)
    return 0


def _measured(
    name: str, options: argparse.Namespace, talks: Sequence[Talk], plan: Plan, folder: Path
) -> tuple[list[Row], list[Ratio]]:
    """All sections of one model."""
    of = subject(name, options.device)
    ground = Ground(of, talks, folder)
    found: list[dict[str, Row]] = []
    for section in options.sections:
        start = time.perf_counter()
        found.append(SECTIONS[section](ground, plan))
        print(f"\n{of.name}, {section}, {time.perf_counter() - start:.0f} s")
        show(section, found[-1], tuple(plan.sizes.tokens))
    rows = merged(of.name, found)
    real = not of.name.startswith("tiny")
    return rows, claims(of.name, rows, full_attention=of.full_attention, judged=real)


def _on_device(of: Subject, plan: Plan, folder: Path) -> list[Row]:
    """The one section of a random model."""
    start = time.perf_counter()
    found = on_device_rows(of, plan.device_sizes, folder)
    print(f"\n{of.name} on {of.model.device}, {time.perf_counter() - start:.0f} s")
    show("device", found, tuple(plan.device_sizes.tokens))
    return [{**row, "device": str(of.model.device)} for row in merged(of.name, [found])]


def _tell(told: str) -> None:
    print(f"  {told}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.kv", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["smollm2"], metavar="MODEL",
        help=f"{', '.join(NAMES)}, or a folder or GGUF file (default: smollm2)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="a JSON file in LoCoMo's format (default: examples/data)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--samples", type=int, metavar="N", help="of compose (default: 16)")
    parser.add_argument("--questions", type=int, metavar="N", help="of answers (default: 64)")
    parser.add_argument("--quick", action="store_true", help="no 8k, less of all")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch (default: 1)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--shape", choices=SHAPES, help="time a random model of this shape, and nothing else")
    parser.add_argument("--folder", type=Path, help="where to put the files; a disk, not a RAM disk")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
