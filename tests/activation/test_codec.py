"""int8, bfloat16 and float32 of keys and values: what is kept, how exactly, and in how many bytes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from memos_engine.activation.codec import SCHEMES, Layout, Scheme, decode, encoded, is_plain
from memos_engine.activation.values import LayerKV

LENGTHS = [1, 2, 63, 64, 65, 300]


def layer(tokens: int = 300, *, heads: int = 2, width: int = 16, seed: int = 0) -> LayerKV:
    """Random keys and values, some channels of the keys much larger than the others."""
    random = torch.Generator().manual_seed(seed)
    keys = torch.randn(heads, tokens, width, generator=random)
    keys[..., 3] = keys[..., 3] * 5 + 40
    return LayerKV(keys, torch.randn(heads, tokens, width, generator=random))


def back(given: LayerKV, scheme: Scheme, *, exact: int = 0, dtype: torch.dtype = torch.float32) -> LayerKV:
    """A layer that went through the codec."""
    tensors = encoded(given, scheme, exact=exact)
    assert tensors is not None
    found = LayerKV(torch.empty_like(given.keys, dtype=dtype), torch.empty_like(given.values, dtype=dtype))
    decode(tensors, scheme, found)
    return found


def ranges(keys: Tensor) -> Tensor:
    """Largest minus smallest key of each group and channel, for each token."""
    groups = keys.split(64, dim=1)
    return torch.cat([(g.amax(1, keepdim=True) - g.amin(1, keepdim=True)).expand_as(g) for g in groups], 1)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_int8_keys_err_by_half_a_step(tokens: int) -> None:
    """A key is off by at most half of 1/255 of its channel's range in its group, whatever the length."""
    given = layer(tokens)
    found = back(given, "int8")
    allowed = ranges(given.keys) / 255 * 0.51 + given.keys.abs() * 2**-10
    assert ((found.keys - given.keys).abs() <= allowed).all()


@pytest.mark.parametrize("tokens", LENGTHS)
def test_int8_values_err_by_half_a_step(tokens: int) -> None:
    """A value is off by at most half of 1/127 of the largest of its token."""
    given = layer(tokens)
    found = back(given, "int8")
    assert (
        (found.values - given.values).abs() <= given.values.abs().amax(-1, keepdim=True) / 127 * 0.51
    ).all()


def test_a_large_channel_does_not_blur_the_others() -> None:
    """Keys are scaled per channel: the error of a small channel is that of its own range."""
    given = layer()
    errors = (back(given, "int8").keys - given.keys).abs().amax((0, 1))
    assert errors[3] > 0.03
    assert (errors[[0, 1, 2, *range(4, 16)]] < 0.02).all()


def test_a_large_token_does_not_blur_the_others() -> None:
    """Values are scaled per token: one with huge values costs the others nothing."""
    given = layer()
    plain = back(given, "int8").values
    given.values[:, 7] *= 1000
    assert torch.equal(back(given, "int8").values[:, 8:], plain[:, 8:])


def test_the_first_token_is_kept_as_it_is() -> None:
    """An attention sink at position 0 comes back as float16 holds it, and does not blur its group."""
    given = layer()
    given.keys[:, 0] = 500
    blurred, found = back(given, "int8"), back(given, "int8", exact=1)
    assert torch.equal(found.keys[:, 0], given.keys[:, 0].half().float())
    assert torch.equal(found.values[:, 0], given.values[:, 0].half().float())
    assert (blurred.keys - given.keys)[:, 1:64].abs().amax() > 0.5
    assert (found.keys - given.keys)[:, 1:64].abs().amax() < 0.1
    alone = layer(1)
    assert torch.equal(back(alone, "int8", exact=1).keys, alone.keys.half().float())


def test_numbers_that_are_all_the_same() -> None:
    """Zeros and constants survive: their range is nothing to divide by."""
    for number in (0.0, 3.5, -1000.0, 1e-9):
        given = LayerKV(torch.full((1, 130, 8), number), torch.full((1, 130, 8), number))
        found = back(given, "int8")
        assert (found.keys - number).abs().max() <= abs(number) * 1e-3 + 1e-7
        assert (found.values - number).abs().max() <= abs(number) * 5e-3 + 1e-5


@pytest.mark.parametrize("part", ["keys", "values"])
@pytest.mark.parametrize("number", [1e8, math.inf, math.nan])
def test_what_int8_cannot_hold_is_told(part: str, number: float) -> None:
    """Numbers beyond the scales are no int8; the caller takes another scheme."""
    given = layer()
    getattr(given, part)[0, 5, 5] = number
    assert encoded(given, "int8") is None


def test_float32_and_bfloat16_are_the_numbers_themselves() -> None:
    """float32 keeps every bit; bfloat16 rounds once, and keeps every bit of a bfloat16 model."""
    given = layer()
    assert torch.equal(back(given, "float32").keys, given.keys)
    assert torch.equal(back(given, "bfloat16").values, given.values.bfloat16().float())
    half = LayerKV(given.keys.bfloat16(), given.values.bfloat16())
    assert torch.equal(back(half, "bfloat16", dtype=torch.bfloat16).keys, half.keys)
    assert torch.equal(back(half, "float32", dtype=torch.bfloat16).keys, half.keys)
    schemes: dict[Scheme, torch.dtype] = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    for scheme in SCHEMES:
        for dtype in schemes.values():
            assert is_plain(scheme, dtype) == (schemes.get(scheme) == dtype)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_is_that_asked_for(scheme: Scheme, dtype: torch.dtype) -> None:
    """Whatever the model runs in can be stored in any scheme and comes back in it."""
    given = layer(200)
    found = back(LayerKV(given.keys.to(dtype), given.values.to(dtype)), scheme, exact=0, dtype=dtype)
    assert (found.keys.float() - given.keys).abs().max() < 0.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("exact", [0, 1])
def test_the_layout_is_what_is_made(scheme: Scheme, tokens: int, exact: int) -> None:
    """Names, dtypes, shapes and their order are told before anything is encoded; wide before narrow."""
    exact = exact if scheme == "int8" else 0
    given = LayerKV(layer(tokens).keys, layer(tokens, width=8).values)
    tensors = encoded(given, scheme, exact=exact)
    assert tensors is not None
    layout = Layout(scheme, heads=2, tokens=tokens, key_dim=16, value_dim=8, exact=exact).tensors()
    assert [(name, part.dtype, tuple(part.shape)) for name, part in tensors.items()] == [
        (name, *told) for name, told in layout.items()
    ]


def test_encoding_leaves_what_it_was_given() -> None:
    """Neither way changes a tensor that is handed in."""
    given, untouched = layer(), layer()
    tensors = encoded(given, "int8", exact=1)
    assert tensors is not None
    kept = {name: part.clone() for name, part in tensors.items()}
    back(given, "int8", exact=1)
    decode(tensors, "int8", layer(seed=1))
    assert all(torch.equal(tensors[name], part) for name, part in kept.items())
    assert torch.equal(given.keys, untouched.keys)
    assert torch.equal(given.values, untouched.values)


@pytest.mark.parametrize(("tokens", "width"), [(256, 64), (1024, 64), (1024, 128), (2048, 256)])
def test_int8_is_half_of_bfloat16(tokens: int, width: int) -> None:
    """With its scales, int8 takes at most 0.53 of the bytes of bfloat16."""

    def size_bytes(scheme: Scheme, exact: int) -> int:
        told = Layout(scheme, 3, tokens, width, width, exact).tensors().values()
        return sum(math.prod(shape) * int(dtype.itemsize) for dtype, shape in told)

    assert size_bytes("int8", 1) <= 0.53 * size_bytes("bfloat16", 0)
