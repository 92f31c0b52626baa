"""Binary strings of JSON are taken out by their hash and put back to the letter, whatever they stand in."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_adapters._media import LEAST_CHARS, MARK, JsonValue, digests, lift, lower, sha256
from memos_engine import NotFound

DATA = bytes(range(256)) * 4
B64 = base64.b64encode(DATA).decode()

LOOK_ALIKES = [
    "a" * 512,
    "a" * 511,
    "deadbeef" * 100,
    "A" * 513 + "===",
    B64[:-4],
    B64 + "\n",
    B64 + "=",
    "-_" * 300,
    f"data:{B64}",
    f"data:image/png;base64,{B64}",
    f"data:image/png;charset=x;base64,{B64}",
    f"data:;base64,{B64}",
    f"data:image/png;base64, {B64}",
    f"data:image/png;base64,{B64}#",
    f"DATA:image/png;base64,{B64}",
    "data:image/png;base64," * 60,
    "é" * 600,
    "\ud800" * 600,
    base64.b64encode(b"").decode() or "",
    base64.b64encode(b"x" * 1000).decode().rstrip("="),
    base64.b64encode(b"\xff" * 1001).decode()[:-3] + "9==",
]
"""Base64, nearly base64, and what decodes but does not encode to the same again."""

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(LOOK_ALIKES) | st.binary(min_size=380, max_size=900).map(lambda b: base64.b64encode(b).decode())
)  # fmt: skip
keys = st.text(max_size=8) | st.sampled_from([MARK, "as_is", "sha256", "head", "data"])
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def survives(value: JsonValue) -> dict[str, bytes]:
    """Assert that a value comes back as it was, through JSON too, and return its bytes."""
    lifted, media = lift(value)
    assert lower(json.loads(json.dumps(lifted)), media) == value
    assert digests(lifted) == set(media)
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in media.items())
    return media


@given(json_values)
def test_every_value_comes_back(value: JsonValue) -> None:
    """Arbitrary JSON, with marks like ours, base64 and what looks like it, comes back character for character."""
    survives(value)


@pytest.mark.parametrize("text", LOOK_ALIKES, ids=range(len(LOOK_ALIKES)))
def test_strings_that_look_binary_come_back(text: str) -> None:
    """Base64, nearly base64 and data URLs come back character for character."""
    survives({"deep": [{"url": text}]})


@pytest.mark.parametrize(
    "value",
    [
        {MARK: {"sha256": "0" * 64, "head": ""}},
        {MARK: {"as_is": 1}},
        {MARK: {"as_is": {MARK: {"as_is": None}}}},
        {MARK: B64},
        {MARK: {MARK: {MARK: B64}}},
        {MARK: {"sha256": B64, "head": B64}},
        {MARK: None, "more": B64},
        {MARK: []},
        {"": {MARK: {}}},
    ],
    ids=str,
)
def test_marks_like_ours_are_data(value: JsonValue) -> None:
    """Objects that look like what we put in the place of bytes are values like others."""
    survives(value)


def test_what_is_taken_out() -> None:
    """The bytes leave the value, once for equal ones; short strings stay."""
    media = survives({"a": B64, "b": [f"data:image/png;base64,{B64}"], "c": B64[:LEAST_CHARS]})
    assert set(media.values()) == {DATA, base64.b64decode(B64[:LEAST_CHARS])}
    lifted, _ = lift({"a": B64})
    assert B64 not in json.dumps(lifted)
    assert lift(B64[: LEAST_CHARS - 4]) == (B64[: LEAST_CHARS - 4], {})


def test_lost_bytes_are_told() -> None:
    """A value whose bytes are not there is refused, not returned without them."""
    lifted, _ = lift({"a": B64})
    with pytest.raises(NotFound, match="is gone"):
        lower(lifted, {})


def test_the_hash_is_that_of_the_bytes() -> None:
    """Base64 and a data URL of the same bytes have the same hash; other text has none."""
    expected = hashlib.sha256(DATA).hexdigest()
    assert sha256(B64) == sha256(f"data:image/png;base64,{B64}") == expected
    assert sha256("no base64!") is None
    assert sha256("") == hashlib.sha256(b"").hexdigest()
