"""The hooks of a hand-written agent loop beside the engine's calls. There is no framework, so no floor."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.adapters.bare import THREAD, Bare
from benchmarks.adapters.ground import Ground
from benchmarks.adapters.legs import MODES, Case, Mode, composed, nothing
from memos_adapters.hooks import AsyncMemoryHooks, MemoryHooks, capture_after, recall_before
from memos_engine import AsyncMemCube


def cases(ground: Ground) -> Iterator[Case]:
    """All of them, each made when its turn comes."""
    for mode in MODES:
        yield _turn(ground, mode)
        yield _functions(ground, mode)


def _turn(ground: Ground, mode: Mode) -> Case:
    user = f"hooks {mode}"
    ground.cube(user)
    bare = Bare(ground, f"bare {user}")
    hooks = MemoryHooks(ground.memos, user_id=user, strict=True)
    ahooks = AsyncMemoryHooks(ground.memos, user_id=user, strict=True)

    def turn(n: int) -> None:
        with hooks.turn([bare.question(n)], session_id=THREAD) as taken:
            taken.answer(bare.answer(n))

    async def aturn(n: int) -> None:
        async with ahooks.turn([bare.question(n)], session_id=THREAD) as taken:
            taken.answer(bare.answer(n))

    adapter = aturn if mode == "async" else turn
    return Case(
        "hooks MemoryHooks.turn", mode, adapter, composed(mode, bare.recall, bare.capture_turn), nothing
    )


def _functions(ground: Ground, mode: Mode) -> Case:
    user = f"hook functions {mode}"
    cube = ground.cube(user)
    acube = AsyncMemCube(cube)
    bare = Bare(ground, f"bare {user}")

    def turn(n: int) -> None:
        question, answer = bare.question(n), bare.answer(n)
        recall_before(cube, [question])
        capture_after(cube, [question, answer], thread=THREAD)

    async def aturn(n: int) -> None:
        question, answer = bare.question(n), bare.answer(n)
        await recall_before(acube, [question])
        await capture_after(acube, [question, answer], thread=THREAD)

    adapter = aturn if mode == "async" else turn
    return Case(
        "hooks recall_before + capture_after", mode, adapter,
        composed(mode, bare.recall, bare.capture_turn), nothing,
    )  # fmt: skip
