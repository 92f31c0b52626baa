"""What becomes of a job that failed: when it is tried again, and what is kept of the error. Pure.

The values themselves (`Job`, `NewJob`) are in `items.py`.
"""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import PurePath

from memos_engine.errors import BadInput, Conflict, MemosError

ATTEMPTS_MAX = 5
"""Attempts after which a job is a dead letter. With the delays below a lasting fault is one after 42.5 s."""
RETRY_FIRST = timedelta(seconds=0.5)
RETRY_FACTOR = 4.0
RETRY_LONGEST = timedelta(minutes=5)
ERROR_CHARACTERS_MAX = 500


def retry(attempts: int) -> timedelta | None:
    """How long a job waits that failed in its attempt number `attempts` (from 1). None: it is dead."""
    if attempts >= ATTEMPTS_MAX:
        return None
    return min(RETRY_FIRST * RETRY_FACTOR ** max(attempts - 1, 0), RETRY_LONGEST)


def told(error: BaseException) -> str:
    """What the queue keeps of an error: its type and place, and its message only where that is ours.

    A foreign message, and one of ours about an input, may quote memory text, which never enters
    the catalog.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    ours = isinstance(error, MemosError) and not isinstance(error, BadInput | Conflict)
    message = f": {error}" if ours else ""
    return f"{type(error).__name__}{place}{message}"[:ERROR_CHARACTERS_MAX]
