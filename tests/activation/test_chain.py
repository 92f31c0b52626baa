"""The longest prefix by block hashes, against a naive comparison of all sequences."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.activation.chain import Chain, chain_digests, chain_root
from memos_engine.activation.values import ModelKey
from memos_engine.errors import BadLimit

KEY = ModelKey(model="m", tokenizer="t", template="c", rope="r", adapter=None, dtype="float32")
ROOT = chain_root(KEY)

_sequences = st.lists(st.integers(0, 2), max_size=12).map(tuple)


def _naive(kept: list[tuple[int, ...]], ids: tuple[int, ...]) -> int:
    def shared(one: tuple[int, ...]) -> int:
        return next((i for i, (a, b) in enumerate(zip(one, ids)) if a != b), min(len(one), len(ids)))  # noqa: B905 -- the shorter one ends it

    return max(map(shared, kept), default=0)


@given(st.lists(_sequences, max_size=12), _sequences, st.integers(1, 5), st.data())
def test_the_longest_match_is_that_of_a_naive_comparison(
    kept: list[tuple[int, ...]], ids: tuple[int, ...], block_tokens: int, data: st.DataObject
) -> None:
    """For any sequences, block size and removals, as many tokens are found as comparing all would find."""
    chain = Chain[tuple[int, ...]](block_tokens=block_tokens)
    for one in kept:
        chain.add(one, one, root=ROOT)
        chain.check_integrity()
    gone = set(data.draw(st.lists(st.sampled_from(kept), max_size=3))) if kept else set()
    for one in gone:
        assert chain.discard(one, root=ROOT)
        chain.check_integrity()
    left = [one for one in kept if one not in gone]
    match = chain.longest(ids, root=ROOT)
    assert (match.tokens if match else 0) == _naive(left, ids)
    assert match is None or match.kept[: match.tokens] == ids[: match.tokens]
    assert len(chain) == len(set(left))


@pytest.mark.parametrize(
    "other",
    [
        chain_root(KEY, salt="bob"),
        chain_root(replace(KEY, adapter="a")),
        chain_root(replace(KEY, model="n")),
        chain_root(replace(KEY, tokenizer="u")),
        chain_root(replace(KEY, rope="s")),
        chain_root(replace(KEY, dtype="bfloat16")),
    ],
    ids=["salt", "adapter", "model", "tokenizer", "rope", "dtype"],
)
def test_nothing_is_found_under_another_root(other: bytes) -> None:
    """Another tenant, adapter or model never finds a prefix, however equal its tokens."""
    chain = Chain[str](block_tokens=2)
    chain.add((1, 2, 3, 4), "kept", root=ROOT)
    assert chain.longest((1, 2, 3, 4), root=other) is None
    assert not chain.discard((1, 2, 3, 4), root=other)
    assert not set(chain_digests((1, 2, 3, 4), ROOT, block_tokens=2)) & set(
        chain_digests((1, 2, 3, 4), other, block_tokens=2)
    )


def test_a_salt_cannot_be_moved_into_an_adapter() -> None:
    """The parts of a root cannot be shifted into each other."""
    assert chain_root(replace(KEY, adapter="a"), salt="b") != chain_root(replace(KEY, adapter="a\0b"))
    assert chain_root(KEY, salt="\ud800") != chain_root(KEY)


def test_the_newest_of_equal_matches_is_found() -> None:
    """Of two sequences that share equally many tokens, the one added last is taken; the same tokens replace."""
    chain = Chain[str](block_tokens=2)
    chain.add((1, 2, 3), "old", root=ROOT)
    chain.add((1, 2, 4), "new", root=ROOT)
    match = chain.longest((1, 2, 5), root=ROOT)
    assert match is not None
    assert (match.kept, match.tokens) == ("new", 2)
    chain.add((1, 2, 3), "newer", root=ROOT)
    match = chain.longest((1, 2, 3), root=ROOT)
    assert match is not None
    assert (match.kept, match.tokens, len(chain)) == ("newer", 3, 2)


def test_digests_depend_on_all_tokens_before() -> None:
    """Equal blocks behind different ones have different digests; a part of a block has none."""
    one = list(chain_digests((1, 2, 3, 4, 5), ROOT, block_tokens=2))
    other = list(chain_digests((9, 2, 3, 4, 5), ROOT, block_tokens=2))
    assert len(one) == len(other) == 2
    assert not set(one) & set(other)


def test_many_threads_add_and_look_up() -> None:
    """Lookups while others add and discard find what was there or nothing, and leave the index whole."""
    chain = Chain[tuple[int, ...]](block_tokens=4)
    failed: list[str] = []

    def work(base: int) -> None:
        for step in range(60):
            ids = (1, 2, 3, 4, base, step % 7, base, step)
            chain.add(ids, ids, root=ROOT)
            match = chain.longest(ids, root=ROOT)
            if match is None or match.kept[: match.tokens] != ids[: match.tokens]:
                failed.append(str(ids))
            if step % 3 == 0:
                chain.discard(ids, root=ROOT)

    threads = [threading.Thread(target=work, args=(base,)) for base in range(10, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failed
    chain.check_integrity()


def test_a_block_has_tokens() -> None:
    """Blocks of no tokens are refused."""
    with pytest.raises(BadLimit, match="block_tokens=0"):
        Chain[str](block_tokens=0)
