"""The folders of a root: one for each cube. Made, swept and removed; what is in them is not looked at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from memos_engine.errors import BadRoot

CUBES = "cubes"
STAGING = ".loading-"
"""How the name of a folder begins that is not a cube yet."""
SWEEP_AGE_S = 86_400.0
REMOVALS = 3
"""Tries to remove a folder into which somebody still writes."""


def make_root(root: Path) -> None:
    """Make the folders of a root, as far as they are not there.

    Raises:
        BadRoot: it is a file, or cannot be made or written.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / CUBES).mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise BadRoot(f"{str(root)!r} is a file, not a folder: name a folder for the memories") from exc
    except OSError as exc:
        raise BadRoot(
            f"{str(root)!r} cannot be made or written ({exc}): name a folder that this user may write"
        ) from exc


def sweep_folders(root: Path, is_removed: Callable[[str], bool]) -> None:
    """Remove what a deletion or a load that was cut short left behind.

    Args:
        root: The root folder.
        is_removed: Whether the catalog says that a cube was deleted.
    """
    for folder in (root / CUBES).iterdir():
        staging = folder.name.startswith(STAGING)
        try:
            age_s = time.time() - folder.stat().st_mtime
        except FileNotFoundError:  # whoever made it has removed it since: two made one cube at a moment
            continue
        old = age_s > SWEEP_AGE_S  # a younger one may be at work elsewhere
        if (staging and old) or (not staging and is_removed(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, if it is there.

    Raises:
        OSError: something in it cannot be removed.
    """
    for left in reversed(range(REMOVALS)):
        if not folder.exists():
            return
        try:
            shutil.rmtree(folder)
        except OSError:
            if not left:
                raise
