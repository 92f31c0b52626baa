"""What tests of blocks may ask for: a model, and the blocks of the cube."""

from __future__ import annotations

import pytest

from memos_engine import MemCube, MemOS
from memos_engine.blocks.shelf import ActivationShelf
from tests.blocks.hot import PacedModel, paced_model


@pytest.fixture(scope="session")
def model() -> PacedModel:
    """A tiny model with fixed rates."""
    return paced_model()


@pytest.fixture
def shelf(memos: MemOS, cube: MemCube) -> ActivationShelf:
    """The blocks of the cube."""
    return memos._host.activation(cube.id)
