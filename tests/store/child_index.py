"""A process to be killed: `python -m tests.store.child_index FOLDER SYNC_THRESHOLD [hold]`.

It brings the index of the cube in FOLDER up to the truth and prints each step. With `hold` it then
keeps the index open until its input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from memos_engine.store.resident import Resident
from tests.store.truth import Truth


def main(folder: str, sync_threshold: str, hold: str = "") -> None:
    """Index, and tell the parent how far it is."""
    truth = Truth(Path(folder))
    resident = Resident(Path(folder), sync_threshold=int(sync_threshold))
    print("ready", flush=True)
    resident.catch_up(truth.read, on_progress=lambda added: print(added, flush=True))
    print("complete", resident.indexed_to, flush=True)
    if hold:
        sys.stdin.read()
    resident.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
