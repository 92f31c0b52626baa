"""Finding again what was said: evidence of LoCoMo's questions in contexts of so many tokens, beside baselines.

    python -m benchmarks.locomo --data FILE [--json FILE] [--quick] [--model FOLDER] [--budgets N ...]

No model answers: measured is what a context holds. Tokens are cl100k's, of the whole context, dates
and delimiters included.

* `recall@1000tok`: share of a question's evidence turns that stand in a context of at most 1,000
  tokens, mean over questions. A turn stands there when 80 % of its content words do.
* `answer_coverage@1000tok`: share of the gold answer's content words that do, a date being one word.
* `mrr`, `hit@10`: of the first turn that is evidence, among the distinct turns of the hits in order;
  `_by_hit` of the first hit that holds one, whole windows being single hits.
* `abstain_auroc`: the chance that the top score of a question to its own conversation is above that
  of one to another; `_renamed` with the speakers' names replaced by those of the other conversation;
  `_adversarial` against questions of category 5, which the own conversation does not answer.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.locomo.ablation import VARIANTS
from benchmarks.locomo.data import Conversation, read_conversations
from benchmarks.locomo.judging import outcomes
from benchmarks.locomo.report import Run, rows_of, show
from benchmarks.locomo.systems import Memo
from benchmarks.machine import write_results
from memos_engine import Embedder, MemOS, SentenceEmbedder
from tests.weights import minilm_folder

BUDGETS = (500, 1000, 2000)
QUICK_CONVERSATIONS = 2
QUICK_STEP = 4


def quick(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Two conversations, each fourth question of them."""
    return [
        dataclasses.replace(conversation, questions=conversation.questions[::QUICK_STEP])
        for conversation in conversations[:QUICK_CONVERSATIONS]
    ]


def main(arguments: Sequence[str] | None = None, embedder: Embedder | None = None) -> int:
    """Run the benchmark; exit status 0 whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="benchmarks.locomo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a JSON file in LoCoMo's format")
    parser.add_argument("--model", type=Path, help="folder of a sentence model (default: the test weights)")
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[], metavar="N",
        help="tokens of further contexts, beside 500, 1000 and 2000",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="two conversations, each fourth question")
    parser.add_argument("--ablation", action="store_true", help="ours without each of its parts, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    run = Run(options.data)
    conversations = read_conversations(options.data)
    if options.quick:
        conversations = quick(conversations)
    budgets = sorted({*BUDGETS, *options.budgets})
    memo = Memo(embedder or SentenceEmbedder(options.model or minilm_folder()))
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        MemOS.open(folder, embedder=memo, background=False) as memos,
    ):
        rows = rows_of(
            outcomes(conversations, budgets, memo, memos, VARIANTS if options.ablation else {}), budgets
        )
    show(rows, budgets)
    print(run.line())
    if options.json:
        write_results(options.json, run, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
