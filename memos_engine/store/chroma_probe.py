"""A look at a Chroma directory by a child process: a torn index can end its process with SIGSEGV.

It imports no chromadb itself; the child does, through `store.chroma`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROBE_TIMEOUT_S = 30.0

_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from memos_engine.store.chroma import probe; probe(sys.argv[2])"
)


def survives(generation: Path, *, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether `store.chroma.probe` returns in a child process, in time.

    The directory must have no other user meanwhile.
    """
    if not generation.is_dir() or not sys.executable:
        return False
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(generation)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
