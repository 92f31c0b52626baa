"""Sharing the keys and values of a group of heads changes nothing but the time."""

from __future__ import annotations

import pytest
import torch

from memos_engine.models.local import LocalModel
from memos_engine.models.local_attention import sharing_heads
from tests.activation import tiny


@pytest.mark.parametrize("name", tiny.COMPOSABLE)
def test_logits_are_those_of_transformers(name: str) -> None:
    """A question behind a prefix, in every architecture: windows, norms and odd head widths included."""
    model = LocalModel(tiny.network(name), tokenizer=tiny.tokenizer())
    prefix, question = model.prefill(tiny.ids(60)), tiny.ids(9, seed=1)
    ids = torch.tensor([[*prefix.ids, *question]])
    with torch.no_grad():
        expected = model.network(input_ids=ids, use_cache=True).logits[0, -9:]
    assert (model.logits(question, prefix) - expected).abs().max() < 1e-4


def test_the_model_is_left_as_it_was() -> None:
    """Within, a model of grouped heads attends otherwise; afterwards, also after an error, as before."""
    network = tiny.network("llama")
    usual = network.config._attn_implementation
    assert usual == "sdpa"

    def fails() -> None:
        with sharing_heads(network):
            assert network.config._attn_implementation != usual
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 -- raised just above
        fails()
    assert network.config._attn_implementation == usual


def test_another_implementation_is_left_alone() -> None:
    """A model that was made to attend in a way of its own does so."""
    network = tiny.network("llama")
    network.set_attn_implementation("eager")
    with sharing_heads(network):
        assert network.config._attn_implementation == "eager"


def test_keys_are_not_copied_for_each_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question behind a prefix attends to the heads there are."""
    seen: list[tuple[int, bool]] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        seen.append((key.shape[1], bool(kwargs.get("enable_gqa"))))
        attended: torch.Tensor = plain(query, key, *args, **kwargs)
        return attended

    model = LocalModel(tiny.network("llama"), tokenizer=tiny.tokenizer())
    prefix = model.prefill(tiny.ids(20))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model.logits(tiny.ids(5), prefix)
    assert seen == [(2, True)] * 3
