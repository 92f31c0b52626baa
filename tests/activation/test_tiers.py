"""Blocks and conversations at hand, within their budgets."""

from __future__ import annotations

import threading

import torch

from memos_engine.activation.chain import chain_root
from memos_engine.activation.prefixes import Prefixes, prefix_salt, size_of
from memos_engine.activation.tiers import Tiers
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from tests.activation import blocks

CPU = torch.device("cpu")
META = torch.device("meta")
"""Holds shapes and no numbers: a device that is not main memory."""
BLOCK = blocks.block(16)
BLOCK_BYTES = size_of(BLOCK.layers)


def tiers_for(ram: int, device: int = 0) -> Tiers:
    """Tiers that hold so many blocks beside the part that is for conversations."""
    return Tiers(-(-ram * BLOCK_BYTES * 4 // 3) + 2, -(-device * BLOCK_BYTES * 4 // 3) + 2)


def put(tiers: Tiers, cube: str, id_: str, *, pinned: bool = False, device: torch.device = CPU) -> KVBlock:
    """Put the one block under a name."""
    made = tiers.put(cube, id_, BLOCK, device, saved_s=1.0, pinned=pinned)
    tiers.check_integrity()
    return made


def conversation(tokens: int, seed: int = 0) -> Prefix:
    """A prefix of random tensors."""
    made = blocks.block(tokens, seed=seed)
    return Prefix(made.ids, made.layers)


def test_a_block_is_found_by_its_cube_and_id() -> None:
    """A block is found under its own cube and id and no other, and is the very one that was put."""
    tiers = tiers_for(2)
    assert put(tiers, "c", "b") is BLOCK
    assert tiers.get("c", "b", CPU) is BLOCK
    assert tiers.get("d", "b", CPU) is None
    assert tiers.get("c", "a", CPU) is None
    assert tiers.held("c") == {"b"}
    assert tiers.sizes("c") == (BLOCK_BYTES, 0)
    assert tiers.sizes("d") == (0, 0)


def test_the_least_used_leaves_over_all_cubes() -> None:
    """The budget is one for all cubes; what was used stays."""
    tiers = tiers_for(2)
    put(tiers, "c", "used")
    put(tiers, "d", "idle")
    assert tiers.get("c", "used", CPU) is BLOCK
    put(tiers, "e", "new")
    assert tiers.get("d", "idle", CPU) is None
    assert tiers.get("c", "used", CPU) is BLOCK
    assert tiers.get("e", "new", CPU) is BLOCK


def test_a_pinned_block_stays() -> None:
    """What is pinned stays when others come; once it is not, it may leave."""
    tiers = tiers_for(1)
    put(tiers, "c", "pin", pinned=True)
    assert put(tiers, "c", "other") is BLOCK
    assert tiers.held("c") == {"pin"}
    tiers.pin("c", "pin", pinned=False)
    put(tiers, "c", "other")
    assert tiers.held("c") == {"other"}


def test_eviction_takes_nothing_from_a_reader() -> None:
    """A block that is let go while somebody reads it stays whole for him."""
    tiers = tiers_for(1)
    reader = put(tiers, "c", "a")
    before = [layer.keys.clone() for layer in reader.layers]
    put(tiers, "c", "b")
    tiers.drop_cube("c")
    assert tiers.get("c", "a", CPU) is None
    assert all(torch.equal(was, layer.keys) for was, layer in zip(before, reader.layers, strict=True))


def test_a_device_has_a_tier_of_its_own() -> None:
    """A block goes to the device and stays in main memory, from where it comes back once it left the device."""
    tiers = tiers_for(2, 1)
    sent = put(tiers, "c", "a", device=META)
    assert {layer.keys.device for layer in sent.layers} == {META}
    assert tiers.get("c", "a", META) is sent
    assert tiers.get("c", "a", CPU) is BLOCK
    put(tiers, "c", "b", device=META)
    assert tiers.sizes("c") == (2 * BLOCK_BYTES, BLOCK_BYTES)
    again = tiers.get("c", "a", META)
    assert again is not None
    assert again is not sent
    assert again.ids == sent.ids
    tiers.drop("c", ["a"])
    assert tiers.get("c", "a", META) is None
    assert tiers.held("c") == {"b"}


def test_what_is_gone_leaves_every_tier() -> None:
    """A dropped block, and a dropped cube, leave main memory and devices; others stay."""
    tiers = tiers_for(4, 4)
    for cube, id_ in (("c", "a"), ("c", "b"), ("d", "a")):
        put(tiers, cube, id_, device=META)
    tiers.drop("c", ["a"])
    assert tiers.held("c") == {"b"}
    assert tiers.held("d") == {"a"}
    tiers.drop_cube("c")
    assert tiers.sizes("c") == (0, 0)
    assert tiers.held("d") == {"a"}
    tiers.check_integrity()


def test_threads_share_the_tiers() -> None:
    """Eight threads that put, get, pin and drop leave the sums right."""
    tiers = tiers_for(3, 2)

    def work(seed: int) -> None:
        for turn in range(100):
            id_ = str((seed * 7 + turn) % 6)
            device = META if turn % 3 else CPU
            if tiers.get("c", id_, device) is None:
                tiers.put("c", id_, BLOCK, device, saved_s=1.0)
            tiers.pin("c", id_, pinned=turn % 5 == 0)
            if turn % 4 == 0:
                tiers.drop("c", [id_])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    tiers.check_integrity()


# Conversations


def test_a_conversation_is_found_by_its_own_principal() -> None:
    """What one principal's conversation left is found under its cube and principal alone, even by part of it."""
    prefixes = Prefixes(1 << 20, 0)
    kept = conversation(20)
    assert prefixes.keep(kept, blocks.KEY, cube="c", principal="user:a")
    mine = prefixes.longest((*kept.ids, 7), root=chain_root(blocks.KEY, salt=prefix_salt("c", "user:a")))
    assert mine is not None
    assert mine.kept is kept
    assert mine.tokens == 20
    for cube, principal in (("c", "user:b"), ("d", "user:a"), ("c", "")):
        root = chain_root(blocks.KEY, salt=prefix_salt(cube, principal))
        assert prefixes.longest(kept.ids, root=root) is None


def test_a_longer_conversation_takes_the_place_of_its_beginning() -> None:
    """The next turn replaces the one before; a different conversation stays beside it."""
    prefixes = Prefixes(1 << 20, 0)
    whole, other = conversation(20), conversation(20, seed=5)
    begun = Prefix(
        whole.ids[:12], tuple(LayerKV(one.keys[:, :12], one.values[:, :12]) for one in whole.layers)
    )
    for kept in (begun, other, whole):
        assert prefixes.keep(kept, blocks.KEY, cube="c", principal="user:a")
    assert len(prefixes) == 2
    assert prefixes.ram_bytes == size_of(whole.layers) + size_of(other.layers)
    prefixes.check_integrity()


def test_conversations_stay_within_their_budget() -> None:
    """The one used longest ago leaves; one that is larger than the budget is not kept."""
    size_bytes = size_of(conversation(20).layers)
    prefixes = Prefixes(2 * size_bytes, 0)
    kept = [conversation(20, seed=seed) for seed in range(3)]
    for each in kept[:2]:
        assert prefixes.keep(each, blocks.KEY, cube="c", principal="user:a")
    root = chain_root(blocks.KEY, salt=prefix_salt("c", "user:a"))
    assert prefixes.longest(kept[0].ids, root=root) is not None
    assert prefixes.keep(kept[2], blocks.KEY, cube="c", principal="user:a")
    assert prefixes.longest(kept[1].ids, root=root) is None
    assert prefixes.longest(kept[0].ids, root=root) is not None
    assert not prefixes.keep(conversation(50), blocks.KEY, cube="c", principal="user:a")
    assert prefixes.ram_bytes == 2 * size_bytes
    assert prefixes.device_bytes == 0
    prefixes.check_integrity()


def test_a_cube_takes_its_conversations_along() -> None:
    """After `drop_cube` nothing of that cube is found, and what was begun before is not kept either."""
    prefixes = Prefixes(1 << 20, 0)
    before = prefixes.moment("c")
    kept = conversation(20)
    prefixes.keep(kept, blocks.KEY, cube="c", principal="user:a", moment=before)
    prefixes.keep(kept, blocks.KEY, cube="d", principal="user:a")
    prefixes.drop_cube("c")
    assert len(prefixes) == 1
    assert prefixes.ram_bytes == size_of(kept.layers)
    assert not prefixes.keep(kept, blocks.KEY, cube="c", principal="user:a", moment=before)
    assert prefixes.keep(kept, blocks.KEY, cube="c", principal="user:a", moment=prefixes.moment("c"))
    prefixes.check_integrity()
