"""Which models were used with which cubes in this process, and when their blocks were looked at.

Models are held weakly and never written anywhere: whoever made one decides how long it is there, and where it
is not, its blocks wait.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from memos_engine.schedule.policy import ModelFacts

if TYPE_CHECKING:
    from memos_engine.models.local import LocalModel

__all__ = ["Met"]


class Met:
    """Models and cubes that came together here. Thread-safe."""

    def __init__(self) -> None:
        """None has yet."""
        self._lock = threading.Lock()
        self._models: WeakValueDictionary[str, LocalModel] = WeakValueDictionary()
        self._looks: dict[str, dict[str, tuple[tuple[int, float], datetime] | None]] = {}

    def add(self, cube: str, model: LocalModel) -> None:
        """A model was used with a cube."""
        digest = model.key.digest
        with self._lock:
            self._models.setdefault(digest, model)  # two of one key make the same blocks
            self._looks.setdefault(cube, {}).setdefault(digest, None)

    def model(self, digest: str) -> LocalModel | None:
        """The model of that key; None when nobody holds it any more."""
        with self._lock:
            return self._models.get(digest)

    def looked(self, cube: str, digest: str, used: tuple[int, float], at: datetime) -> None:
        """It was decided at `at` which blocks are worth their place, by uses as they were at `used`."""
        with self._lock:
            if cube in self._looks:  # else it was deleted meanwhile
                self._looks[cube][digest] = (used, at)

    def facts(self, cube: str, now: datetime) -> tuple[ModelFacts, ...]:
        """What policy looks at: the models used with a cube that are still there."""
        with self._lock:
            looks = [
                (digest, look) for digest, look in self._looks.get(cube, {}).items() if digest in self._models
            ]
        return tuple(
            ModelFacts(digest) if look is None else ModelFacts(digest, look[0], now - look[1])
            for digest, look in looks
        )

    def drop(self, cube: str) -> None:
        """The cube is gone."""
        with self._lock:
            self._looks.pop(cube, None)
