"""What keeps a cube whole, as one principal may ask for it: counts, checks, rebuilding, dumps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memos_engine.acting import ScopedCube
from memos_engine.items import CheckReport, CubeStats, Kind
from memos_engine.upkeep import Progress, check_cube, cube_stats, dump_cube, rebuild_cube


class TendedCube(ScopedCube):
    """The verbs of a cube's upkeep."""

    def stats(self) -> CubeStats:
        """Counts and sizes.

        Raises:
            AccessDenied: this scope may not read here.
        """
        actor = self._actor("read")
        return cube_stats(self._shelf, actor.view)

    def check(self) -> CheckReport:
        """Compare the truth with itself and with every projection; changes nothing.

        Raises:
            AccessDenied: only the owner may.
        """
        self._actor("owner")
        return check_cube(self._shelf)

    def rebuild(self) -> CheckReport:
        """Make words, page and index anew from the truth, then check.

        Raises:
            AccessDenied: only the owner may.
        """
        self._actor("owner")
        return rebuild_cube(self._shelf, self._principal)

    def dump(
        self,
        path: str | Path,
        *,
        kinds: Sequence[Kind] | None = None,
        overwrite: bool = False,
        progress: Progress = None,
    ) -> Path:
        """Write the cube to a folder, or to one file when `path` ends in `.tar.zst`: checksummed and atomic.

        Args:
            path: Where to; must not exist unless `overwrite`.
            kinds: Which kinds of items; None for all.
            overwrite: Replace what is there.
            progress: Called with (done, total) items.

        Raises:
            AccessDenied: only the owner may: a dump holds what others keep private.
            StoreError: it cannot be written; nothing is left at `path`.
        """
        self._actor("owner")
        return dump_cube(
            self._shelf,
            Path(path),
            name=self.name,
            clock=self._host.clock,
            kinds=kinds,
            overwrite=overwrite,
            progress=progress,
        )
