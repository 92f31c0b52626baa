"""How a token is chosen: the shares are those asked for, and broken logits are refused."""

from __future__ import annotations

import math

import pytest
import torch

from memos_engine.errors import ModelFailed
from memos_engine.models.local_sampling import Sampler, Sampling

SHARES = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
DRAWS = 4000


def drawn(how: Sampling) -> list[float]:
    """The share of each token among many draws."""
    sampler = Sampler(how)
    counts = torch.bincount(torch.tensor([sampler.choose(SHARES.log()) for _ in range(DRAWS)]), minlength=5)
    shares: list[float] = (counts / DRAWS).tolist()
    return shares


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Sampling(temperature=1.0, seed=1), [0.1, 0.4, 0.05, 0.3, 0.15]),
        (Sampling(temperature=0.5, seed=1), [0.0357, 0.5714, 0.0089, 0.3214, 0.0804]),
        (Sampling(temperature=1.0, top_k=2, seed=1), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(temperature=1.0, top_p=0.7, seed=1), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(temperature=1.0, top_p=0.71, seed=1), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]),
        (Sampling(temperature=1.0, top_k=4, top_p=0.5, seed=1), [0, 4 / 7, 0, 3 / 7, 0]),
    ],
    ids=["plain", "cooler", "top_k", "top_p", "top_p on the edge", "both"],
)
def test_shares_are_those_asked_for(how: Sampling, expected: list[float]) -> None:
    """Temperature, top_k and top_p shape the draw as defined; what is cut is never drawn."""
    found = drawn(how)
    assert found == pytest.approx(expected, abs=0.03)
    assert [share == 0 for share in found] == [share == 0 for share in expected]


def test_no_temperature_takes_the_likeliest() -> None:
    """Greedy choice is the first of the largest logits."""
    assert Sampler(Sampling()).choose(torch.tensor([0.0, 3.0, 3.0, 1.0])) == 1


def test_tiny_temperatures_do_not_overflow() -> None:
    """Dividing by next to nothing leaves the likeliest."""
    assert Sampler(Sampling(temperature=1e-308, seed=0)).choose(torch.tensor([5.0, 80.0, 79.0])) == 1


def test_forbidden_tokens_are_never_drawn() -> None:
    """A logit of minus infinity is a probability of 0."""
    sampler = Sampler(Sampling(temperature=1.0, seed=0))
    assert {sampler.choose(torch.tensor([-math.inf, 1.0, -math.inf])) for _ in range(50)} == {1}


@pytest.mark.parametrize("broken", [[1.0, math.nan], [1.0, math.inf], [-math.inf, -math.inf]], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_no_number_is_refused(broken: list[float], temperature: float) -> None:
    """NaN, infinity, and no candidate at all are failures of the model."""
    with pytest.raises(ModelFailed, match="finite"):
        Sampler(Sampling(temperature=temperature)).choose(torch.tensor(broken))
