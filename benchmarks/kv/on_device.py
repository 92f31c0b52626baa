"""A long memory on its way to an accelerator: from the device itself, from pinned RAM, from the disk.

The model is random, so only times mean something. The roofline of a way is the time of the question over
keys and values that are on the device already, and their bytes at the copy and read rates that were
measured here. `auto` composes two halves, of which the second stands behind something else than what it
was read behind: it takes full prefill where composing would not be quicker. `engine_keeps` is whether the
engine would make such a file at all: it does not where, by its own rates, loading saves too little.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.adapters.legs import Spent, milliseconds, rounded
from benchmarks.kv import published
from benchmarks.kv.first_token import FLOOR, FULL, PUBLISHED, QUESTION_TOKENS, Sizes, likeliest
from benchmarks.kv.subjects import Subject
from benchmarks.kv.timing import Leg, drop_from_cache, in_rounds, speedups, times
from benchmarks.machine import Row
from memos_engine.activation.block_file import load_block, save_block
from memos_engine.activation.codec import Scheme
from memos_engine.activation.compose import compose
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from memos_engine.blocks.promote import machine_of
from memos_engine.models.local import LocalModel
from memos_engine.schedule.promotion import BREAK_EVEN
from tests.activation import tiny

__all__ = ["on_device_rows"]

DEVICE, PINNED, DISK = "ours, from the device", "ours, from pinned RAM", "ours, from disk"
AUTO = "ours, two halves, auto"
COPIES = 5


@dataclass(frozen=True, slots=True)
class _Kept:
    """A memory in every place it may be kept."""

    prefix: Prefix
    block: KVBlock
    pinned: KVBlock
    halves: tuple[KVBlock, KVBlock]
    files: dict[str, Path]
    pickled: Path


def on_device_rows(subject: Subject, sizes: Sizes, folder: Path) -> dict[str, Row]:
    """One row a way, with columns for each size."""
    rows: dict[str, Row] = {}
    subject.model.rates  # noqa: B018 -- measured once per process, not with the first question
    for name, count in sizes.tokens.items():
        limit = subject.model.capabilities.context_tokens - 2 * QUESTION_TOKENS
        found = _of_size(subject.model, min(count, limit), sizes.rounds[name], folder, f"_{name}")
        for system, row in found.items():
            rows.setdefault(system, {}).update(row)
    return rows


def _of_size(model: LocalModel, count: int, rounds: int, folder: Path, suffix: str) -> dict[str, Row]:
    ids = tiny.ids(count + QUESTION_TOKENS, seed=count)
    kept, question = _kept(model, ids[:count], folder), ids[count:]
    methods: list[str] = []
    legs = _legs(model, kept, question, methods)
    in_rounds({name: leg for name, leg in legs.items() if name != FULL}, 1)
    spent, _ = in_rounds(legs, rounds)
    rows: dict[str, Row] = {}
    for name, each in spent.items():
        rows[name] = times(each, suffix[1:])
        if name != FULL:
            rows[name] |= speedups(spent[FULL], each, "ttft_speedup", suffix)
    for name, seconds in _load_s(model, kept, spent).items():
        roof_s = median(spent[FLOOR].wall_s) + seconds
        rows[name][f"roofline_ms{suffix}"] = milliseconds(roof_s)
        rows[name][f"to_roofline{suffix}"] = rounded(median(spent[name].wall_s) / roof_s)
    machine = machine_of(model)
    for name, path in kept.files.items():
        price = machine.price(count, path.stat().st_size)
        rows[f"{DISK}{name}"] |= {
            f"engine_saves_ms{suffix}": milliseconds(price.saved_s),
            f"engine_keeps{suffix}": int(price.read_s >= BREAK_EVEN * price.load_s),
        }
    rows[AUTO][f"methods{suffix}"] = ", ".join(sorted(set(methods)))
    return rows


def _kept(model: LocalModel, memory: tuple[int, ...], folder: Path) -> _Kept:
    prefix = model.prefill(memory)
    block = KVBlock(ids=prefix.ids, behind=(), layers=prefix.layers, key=model.key)
    scheme: Scheme = "float32" if model.key.dtype == "float32" else "bfloat16"
    files = {"": folder / f"{scheme}.block", ", int8": folder / "int8.block"}
    save_block(files[""], block, scheme=scheme)
    save_block(files[", int8"], block)
    pickled = folder / "published.pickle"
    published.save(pickled, published.cache_of(model.network, memory))
    middle = len(memory) // 2
    return _Kept(
        prefix=prefix,
        block=block,
        pinned=_in_main_memory(block),
        halves=(model.block(memory[:middle]), model.block(memory[middle:], memory[:1])),
        files=files,
        pickled=pickled,
    )


def _legs(model: LocalModel, kept: _Kept, question: tuple[int, ...], methods: list[str]) -> dict[str, Leg]:
    network = model.network

    def over(blocks: Sequence[KVBlock]) -> int:
        composed = compose(model, blocks, question)
        if len(blocks) > 1:
            methods.append(composed.method)
        return model.complete(composed.rest, composed.prefix, max_new_tokens=1).ids[0]

    def from_file(path: Path) -> int:
        loaded = load_block(path, model.key, model.capabilities.layers, dtype=network.dtype)
        assert isinstance(loaded, KVBlock), loaded
        return over([loaded])

    def from_pickle() -> int:
        return likeliest(published.answer(network, published.load(kept.pickled), question))

    legs = {
        FULL: Leg(lambda: likeliest(published.full_prefill(network, (*kept.prefix.ids, *question)))),
        FLOOR: Leg(lambda: likeliest(published.answer(network, published.over(kept.prefix), question))),
        DEVICE: Leg(partial(over, [kept.block])),
        PINNED: Leg(partial(over, [kept.pinned])),
        AUTO: Leg(partial(over, kept.halves)),
        PUBLISHED: Leg(from_pickle),
    }
    for name, path in kept.files.items():
        legs[f"{DISK}{name}"] = Leg(partial(from_file, path))
        legs[f"{DISK}{name}, cold"] = Leg(partial(from_file, path), partial(drop_from_cache, path))
    return legs


def _in_main_memory(block: KVBlock) -> KVBlock:
    """A copy in main memory, page-locked where the machine has a CUDA device to copy to."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        copy: torch.Tensor = tensor.cpu().clone()
        return copy.pin_memory() if torch.cuda.is_available() else copy

    layers = tuple(LayerKV(moved(layer.keys), moved(layer.values)) for layer in block.layers)
    return KVBlock(ids=block.ids, behind=block.behind, layers=layers, key=block.key)


def _load_s(model: LocalModel, kept: _Kept, spent: dict[str, Spent]) -> dict[str, float]:
    """Seconds that the bytes of each way take at the measured rates, nothing else being done."""
    copy_s = _copy_s(kept.pinned, model.device)
    loads = {DEVICE: 0.0, PINNED: copy_s}
    for name, path in kept.files.items():
        loads[f"{DISK}{name}"] = _read_s(path) + copy_s
        if f"{DISK}{name}, cold" in spent:
            drop_from_cache(path)
            loads[f"{DISK}{name}, cold"] = _read_s(path) + copy_s
    return loads


def _copy_s(block: KVBlock, device: torch.device) -> float:
    """Copying a block from main memory to where the model is, the best of some."""
    seconds = []
    for _ in range(COPIES):
        start = time.perf_counter()
        for layer in block.layers:
            last = [tensor.to(device, copy=True) for tensor in (layer.keys, layer.values)]
            last[-1][-1, -1, -1].item()  # waits until it is there
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _read_s(path: Path) -> float:
    """Reading a file in pieces, into memory that is used again."""
    piece = bytearray(1 << 24)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
    return time.perf_counter() - start
