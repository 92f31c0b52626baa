"""What every test may ask for: an open root with a fake embedder and a clock that tests move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

from memos_engine import MemCube, MemOS
from memos_engine.testing.fakes import FrozenClock, HashEmbedder

settings.register_profile("ci", derandomize=True)  # one commit, one answer; a run by hand explores
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def clock() -> FrozenClock:
    """A clock at noon of a fixed day."""
    return FrozenClock(datetime(2025, 6, 1, 12, tzinfo=UTC))


@pytest.fixture
def memos(tmp_path: Path, clock: FrozenClock) -> Iterator[MemOS]:
    """An open root; jobs run in `drain` only."""
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), clock=clock, background=False) as opened:
        yield opened


@pytest.fixture
def cube(memos: MemOS) -> MemCube:
    """A cube of the root's handle."""
    return memos.cube("alice")
