"""This project's engine with its Chroma index behind the cube, whatever the cube's size."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.systems.ours import Ours


class OursChroma(Ours):
    """The index is built by `drain`."""

    index_above: ClassVar[int] = 0


SYSTEM = OursChroma
