"""Names made durable: what a rename or a new file needs beside the bytes of the file itself."""

from __future__ import annotations

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Make a file's bytes or a folder's names durable, where the system can: Windows needs a handle to write."""
    if os.name == "nt" or not path.exists():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
