"""A cube that was told something."""

from __future__ import annotations

import pytest

from memos_engine import MemCube, Message
from tests.chat.talks import SAID


@pytest.fixture
def told(cube: MemCube) -> MemCube:
    """A cube that was told three things of Lisbon."""
    cube.capture([Message("user", text, name="Ann", id=f"m{n}") for n, text in enumerate(SAID)], thread="old")
    return cube
