"""A process to be killed: `python -m tests.adapters.hooks_writer ROOT ROUND INTERVAL_S`, then a line on its input.

It takes turns in several sessions without end, and tells each text once its capture returned.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from memos_adapters.hooks import MemoryHooks
from memos_engine import MemOS
from memos_engine.testing.fakes import HashEmbedder

SESSIONS = 3


def main(root: str, round_: str, interval_s: str) -> None:
    """Wait for the word, then take turns until the end."""
    import memos_engine.capture.reader  # noqa: F401, PLC0415 -- before the word: it takes a while

    memos = MemOS.open(Path(root), embedder=HashEmbedder(32), background=False)
    hooks = MemoryHooks(memos, capture_interval_s=float(interval_s))
    conversations: list[list[dict[str, str]]] = [[] for _ in range(SESSIONS)]
    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    for n in count():
        session = n % SESSIONS
        text = f"turn {n} of round {round_}"
        conversations[session].append({"role": "user", "content": text})
        hooks.capture_after(conversations[session], user_id=f"u{session}", session_id=f"{round_}/{session}")
        print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
