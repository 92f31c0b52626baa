"""What keeps a cube whole over time: check, rebuild, re-embed, count, dump, and the background jobs.

Each is a function of a shelf; `cube.py` and `engine.py` decide who may ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from memos_engine.blocks.health import block_problems, repair_blocks
from memos_engine.embedding import NamedVectors
from memos_engine.items import CheckReport, CubeStats, Kind, TreeNode
from memos_engine.ports import Clock, Embedder
from memos_engine.schedule.policy import CubeFacts, ModelFacts
from memos_engine.shelf import TextShelf
from memos_engine.store import health
from memos_engine.store.moments import micros
from memos_engine.store.rows import View
from memos_engine.store.tree import WORKER
from memos_engine.store.writing import CubeWriter
from memos_engine.tree.job import ORGANISED_TO, organise
from memos_engine.tree.view import tree_of

__all__ = [
    "Progress", "check_cube", "cube_facts", "cube_stats", "cube_tree", "dump_cube", "expire", "organise",
    "rebuild_cube", "reembed_cube",
]  # fmt: skip

Progress = Callable[[int, int], None] | None
"""Called with (done, total) items; None for no report."""
REEMBED_BATCH = 256  # items a transaction: an interrupted re-embedding goes on where it was
EXPIRE_BATCH = 1_000


def cube_stats(shelf: TextShelf, view: View) -> CubeStats:
    """Counts and sizes of a cube; items are counted as far as nobody keeps them from `view`."""
    with shelf.file.read() as reader:
        kinds = reader.kinds(view)
        embedder = reader.embedder()
        counts = {table: reader.count(table) for table in ("vectors", "edges", "versions")}
        revision = reader.revision()
    return CubeStats(
        items=sum(kinds.values()),
        by_kind=kinds,
        **counts,
        revision=revision,
        indexed_to=shelf.resident.indexed_to,
        disk_bytes=sum(map(_size_of, shelf.file.folder.rglob("*"))),
        page_bytes=shelf.resident.nbytes,
        embedder=embedder.fingerprint if embedder else None,
    )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # an unfinished file, which has its own name by now
        return 0


def check_cube(shelf: TextShelf) -> CheckReport:
    """Compare the truth with itself, then the page, the index and the files of blocks with the truth."""
    with shelf.file.read() as reader:
        found = health.problems(reader)
        found["projections"] = shelf.resident.problems(reader)
    found["blocks"] = block_problems(shelf)
    return CheckReport(tuple(found), tuple(line for lines in found.values() for line in lines))


def rebuild_cube(shelf: TextShelf, principal: str) -> CheckReport:
    """Make words, page and index anew from the truth, take away blocks that are damaged, then check."""
    shelf.file.write(
        health.rebuild_words, principal=principal, action="rebuild", detail=lambda count: {"items": count}
    )
    repair_blocks(shelf)
    shelf.resident.renew()
    if shelf.resident.needs_rebuild:
        shelf.resident.catch_up(shelf.file.read)
    return check_cube(shelf)


def reembed_cube(shelf: TextShelf, embedder: Embedder, principal: str, progress: Progress = None) -> int:
    """Give every live item vectors by `embedder`, then make them the ones searches use; returns how many.

    The old vectors serve until the last new one is there; an interrupted call goes on where it was.
    """
    done = 0
    with shelf.file.read() as reader:
        total = reader.count("items WHERE indexed = 1")
    while True:
        with shelf.file.read() as reader:
            batch = reader.without_vectors(embedder.fingerprint, limit=REEMBED_BATCH)
        if not batch and _switched(shelf, embedder.fingerprint, principal):
            return done
        vectors = shelf.embedded([(item, names) for _, item, names in batch], embedder)
        rows = [(n, item.version, named) for (n, item, _), named in zip(batch, vectors, strict=True)]
        if rows:
            _add_vectors(shelf, embedder.fingerprint, rows, principal)
        done += len(batch)
        if progress is not None:
            progress(done, max(total, done))


def _add_vectors(
    shelf: TextShelf,
    fingerprint: str,
    rows: Sequence[tuple[int, int, NamedVectors]],
    principal: str,
) -> None:
    dimension = len(next(iter(rows[0][2].values())))

    def work(writer: CubeWriter) -> int:
        return writer.add_vectors(rows, writer.other_embedder(fingerprint, dimension))

    shelf.file.write(work, principal=principal, action="reembed", detail=lambda count: {"items": count})


def _switched(shelf: TextShelf, fingerprint: str, principal: str) -> bool:
    """Make the new vectors the current ones; False when something was written meanwhile."""
    done = shelf.file.write(
        lambda writer: writer.switch_embedder(fingerprint), principal=principal, action="reembed"
    )
    if done:
        shelf.resident.renew()
    return done


def cube_facts(shelf: TextShelf, now: datetime, models: tuple[ModelFacts, ...] = ()) -> CubeFacts:
    """What policy looks at, with the models that are at hand."""
    with shelf.file.read() as reader:
        return CubeFacts(
            shelf.file.cube,
            reader.revision(),
            int(reader.meta(ORGANISED_TO) or 0),
            reader.count("vectors"),
            *shelf.resident.lag(reader),
            expired=len(reader.expired(micros(now), 1)),
            blocks=reader.count("blocks") if models else 0,
            used=reader.used_last() if models else (0, 0.0),
            models=models,
        )


def expire(shelf: TextShelf, now: datetime, heartbeat: Callable[[], None]) -> int:
    """Take items whose time is over out of search; their text stays in the history until it is forgotten."""
    done = 0
    while True:
        with shelf.file.read() as reader:
            refs = reader.expired(micros(now), EXPIRE_BATCH)
        if not refs:
            return done
        done += shelf.file.write(
            lambda writer, refs=refs: writer.expire(refs, micros(now)), principal=WORKER, action="expire",  # type: ignore[misc] # -- a lambda with a default
            detail=lambda count: {"items": count},
        )  # fmt: skip
        heartbeat()


def cube_tree(shelf: TextShelf, view: View, *, depth: int | None, limit: int) -> tuple[TreeNode, ...]:
    """The tree as far as `view` may see it."""
    with shelf.file.read() as reader:
        return tree_of(reader, view, depth=depth, limit=limit)


def dump_cube(
    shelf: TextShelf,
    path: Path,
    *,
    name: str,
    clock: Clock,
    kinds: Sequence[Kind] | None,
    overwrite: bool,
    progress: Progress,
) -> Path:
    """Write a cube's archive; see store/archive.py."""
    from memos_engine.store import archive  # noqa: PLC0415 -- pydantic models take 0.1 s; few processes dump

    return archive.dump(
        shelf.file, path, name=name, clock=clock, kinds=kinds, overwrite=overwrite, progress=progress
    )
