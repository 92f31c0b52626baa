"""The commands of `memcube`: each asks the engine and returns an `Answer`. Knows no layout of a terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import chain, islice
from pathlib import Path

from memos_engine.cli.arguments import UsageError
from memos_engine.cli.render import Answer, Screen, as_json, moment
from memos_engine.cli.transcripts import Said, Transcript, opened
from memos_engine.cli.workplace import Workplace
from memos_engine.cube import MemCube
from memos_engine.errors import BadInput, Conflict, NotFound
from memos_engine.items import Json, MemoryItem, Message

NOTHING = 1
"""Exit code when nothing was found, a check found problems, or the answer was no."""
BATCH = 200
"""Messages between two steps of the progress bar: each batch is durable."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def capture(work: Workplace) -> Answer:
    """Make a file of messages memory, batch by batch."""
    counts = dict.fromkeys(("messages", "new", "known", "forgotten", "derived", "blank"), 0)
    with opened(work.options.file, format=work.options.format, thread=work.options.thread) as transcript:
        batches = _batches(transcript, counts)
        first = next(batches, None)  # a file that cannot be taken makes no cube
        if first is None:
            return Answer(dict(counts), lambda screen: screen.note("no messages in the file"), NOTHING)
        cube = work.cube(create=True, model=True)
        with work.screen.progress("capturing") as advance:
            for batch in chain([first], batches):
                for thread, messages in _by_thread(batch).items():
                    _capture(cube, thread, messages, counts)
                advance(batch[-1].done, transcript.total)
        counts["blank"] = transcript.blank
    told = ", ".join(
        f"{counts[name]:,} {name}"
        for name in ("new", "known", "derived", "forgotten", "blank")
        if counts[name] or name in {"new", "known", "derived"}
    )
    line = f"{_count(counts['messages'], 'message')} captured into cube {cube.name!r}: {told}"
    return Answer({"cube": cube.name, **counts}, lambda screen: screen.line(line))


def _capture(cube: MemCube, thread: str, messages: Sequence[Message], counts: dict[str, int]) -> None:
    result = cube.capture(messages, thread=thread)
    counts["messages"] += len(messages)
    counts["new"] += result.new
    counts["forgotten"] += len(result.forgotten)
    counts["known"] += len(messages) - result.new - len(result.forgotten)
    counts["derived"] += len(result.derived)


def _batches(transcript: Transcript, counts: Mapping[str, int]) -> Iterator[list[Said]]:
    said = iter(transcript)
    try:
        while batch := list(islice(said, BATCH)):
            yield batch
    except BadInput as exc:
        if not counts["messages"]:
            raise
        kept = _count(counts["messages"], "message")
        raise type(exc)(f"{exc}. The first {kept} stay captured: correct it and run this again") from exc


def _by_thread(batch: Sequence[Said]) -> dict[str, list[Message]]:
    threads: dict[str, list[Message]] = {}
    for said in batch:
        threads.setdefault(said.thread, []).append(said.message)
    return threads


def recall(work: Workplace) -> Answer:
    """The context for a query, with the source and the reason of each line."""
    options = work.options
    context = work.cube(model=True).recall(
        options.query, budget_tokens=options.budget, min_score=options.min_score
    )
    hits = {hit.item.id: hit for hit in context.hits}
    lines = [(handle, source, hits[source.item]) for handle, source in context.sources.items()]

    def show(screen: Screen) -> None:
        if context:
            screen.line(context.text)
        else:
            screen.note("nothing found")
        if screen.is_terminal or options.explain:  # else a pipe gets what a prompt needs, and no more
            rows = [
                (str(handle), moment(hit.item), source.message_id or source.item, _why(hit.why))
                for handle, source, hit in lines
            ]
            screen.table(("", "when (UTC)", "source", "why"), rows)
        if options.explain:
            screen.line(f"understood as {context.understood}")
            screen.line(
                f"{context.score:.0%} sure that the answer is here (silent below {options.min_score:.0%})"
            )
            missed = [
                (f"{hit.score:.3f}", moment(hit.item), hit.item.speaker or "", hit.item.text, _why(hit.why))
                for hit in context.left_out
            ]
            screen.table(("left out", "when (UTC)", "speaker", "text", "why"), missed)

    sources: list[Json] = [
        {"handle": handle, **_object(as_json(source)), "score": hit.score, "why": as_json(hit.why)}
        for handle, source, hit in lines
    ]
    data: dict[str, Json] = {
        "text": context.text, "tokens": context.tokens, "score": context.score, "sources": sources,
    }  # fmt: skip
    if options.explain:
        data |= {"understood": context.understood, "left_out": as_json(context.left_out)}
    return Answer(data, show, 0 if context else NOTHING)


def search(work: Workplace) -> Answer:
    """The best memories for a query."""
    hits = work.cube(model=True).search(
        work.options.query, limit=work.options.limit, kinds=work.options.kinds or ()
    )

    def show(screen: Screen) -> None:
        if hits:
            screen.memories(("score",), [((f"{hit.score:.3f}",), hit.item, (_why(hit.why),)) for hit in hits])
        else:
            screen.note("nothing found")

    return Answer({"hits": as_json(hits)}, show, 0 if hits else NOTHING)


def list_items(work: Workplace) -> Answer:
    """The memories, newest first."""
    items = work.cube().list(limit=work.options.limit, kinds=work.options.kinds or ())

    def show(screen: Screen) -> None:
        if items:
            screen.memories((), [((), item, ()) for item in items])
        else:
            screen.note("nothing found")

    return Answer({"items": as_json(items)}, show, 0 if items else NOTHING)


def tree(work: Workplace) -> Answer:
    """What the memories are about."""
    nodes = work.cube().tree(depth=work.options.depth, limit=work.options.limit)

    def show(screen: Screen) -> None:
        if nodes:
            screen.tree(nodes)
        else:
            screen.note(
                "nothing is organised yet: programs that hold the memories open do it in the background"
            )

    return Answer({"tree": as_json(nodes)}, show, 0 if nodes else NOTHING)


def show_one(work: Workplace) -> Answer:
    """A memory with its history, or the manifest of a cube file."""
    path = Path(work.options.what)
    if not _ID.fullmatch(work.options.what) and path.exists():
        return _manifest(path)
    cube = work.cube()
    item, history = cube.get(work.options.what), cube.history(work.options.what)

    def show(screen: Screen) -> None:
        screen.table(("field", "value"), [(name, _told(value)) for name, value in _set_fields(item)])
        if len(history) > 1:
            screen.memories(
                ("version",), [((str(past.item.version),), past.item, ()) for past in history[:-1]]
            )

    return Answer({"item": as_json(item), "history": as_json(history)}, show)


def _manifest(path: Path) -> Answer:
    from memos_engine.store.archive import read_manifest  # noqa: PLC0415 -- pydantic models take 0.1 s

    manifest: dict[str, Json] = read_manifest(path).model_dump(mode="json")
    rows = [(name, _told(value)) for name, value in manifest.items() if name != "files"]
    return Answer({"manifest": manifest}, lambda screen: screen.table(("field", "value"), rows))


def forget(work: Workplace) -> Answer:
    """Erase memories, once a person agreed or `--yes` was typed."""
    cube = work.cube()
    if not work.options.yes:
        for item_id in dict.fromkeys(work.options.ids):
            work.screen.note(f"{item_id}  {cube.get(item_id).text}")
        also = "what is derived from them" + (" and the turns they come from" if work.options.sources else "")
        agreed = work.screen.ask(f"Erase these, and {also}, for good?")
        if agreed is None:
            raise UsageError("there is no terminal to ask on: add --yes to erase without being asked")
        if not agreed:
            return Answer({"items": []}, lambda screen: screen.note("nothing was erased"), NOTHING)
    erased = cube.forget(list(dict.fromkeys(work.options.ids)), sources=work.options.sources)
    told = f"{_count(len(erased.items), 'item')} erased, with {_count(erased.versions, 'older version')}"
    return Answer(_object(as_json(erased)), lambda screen: screen.line(told))


def dump(work: Workplace) -> Answer:
    """Write a cube to a folder or a file."""
    cube = work.cube()
    with work.screen.progress("dumping") as advance:
        path = cube.dump(
            work.options.path, kinds=work.options.kinds, overwrite=work.options.overwrite, progress=advance
        )
    files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    told = f"cube {cube.name!r} dumped to {str(path)!r}: {size:,} bytes"
    return Answer({"cube": cube.name, "path": str(path), "bytes": size}, lambda screen: screen.line(told))


def load(work: Workplace) -> Answer:
    """Make a new cube out of a cube file."""
    memos = work.memos(create=True)
    with work.screen.progress("loading") as advance:
        cube = memos.load(work.options.path, name=work.options.name, progress=advance)
    items = cube.stats().items
    told = f"cube {cube.name!r} loaded from {str(work.options.path)!r}: {_count(items, 'item')}"
    return Answer({"cube": as_json(cube.info), "items": items}, lambda screen: screen.line(told))


def check(work: Workplace) -> Answer:
    """Compare one cube, or all of one's own, with itself and its indexes."""
    named = work.options.cube is not None or work.options.owner is not None
    report = work.cube().check() if named else work.memos().check()

    def show(screen: Screen) -> None:
        for problem in report.problems:
            screen.line(problem)
        screen.note(
            f"{_count(len(report.checked), 'part')} compared, {_count(len(report.problems), 'problem')}"
        )

    return Answer({"ok": report.ok, **_object(as_json(report))}, show, 0 if report.ok else NOTHING)


def stats(work: Workplace) -> Answer:
    """Counts and sizes of a cube."""
    data = _object(as_json(work.cube().stats()))
    rows = [(name, _told(value)) for name, value in data.items()]
    return Answer(data, lambda screen: screen.table(("", ""), rows))


def cubes(work: Workplace) -> Answer:
    """The cubes that one may see."""
    found = work.memos().cubes()
    rows = [(row.name, row.owner, f"{row.created_at:%Y-%m-%d %H:%M}", row.id) for row in found]

    def show(screen: Screen) -> None:
        if rows:
            screen.table(("name", "owner", "made (UTC)", "id"), rows)
        else:
            screen.note("no cubes yet")

    return Answer({"cubes": as_json(found)}, show, 0 if found else NOTHING)


def examples(work: Workplace) -> Answer:
    """Copy the examples into a folder that is new or empty."""
    target: Path = work.options.folder
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{str(target)!r} is in use: name a new or an empty folder")
    copied = sorted(_copied(_examples(), target))
    told = f"{_count(len(copied), 'file')} copied into {str(target)!r}"
    return Answer({"folder": str(target), "files": as_json(copied)}, lambda screen: screen.line(told))


def _examples() -> Traversable:
    """Where the examples are: within an installed package, beside it in a checkout."""
    package = resources.files("memos_engine")
    with resources.as_file(package) as folder:
        for found in (package / "_examples", folder.parent / "examples"):
            if (found / "01_remember.py").is_file():
                return found
    raise NotFound("the examples are not in this installation: get them from the project's repository")


def _copied(source: Traversable, target: Path) -> Iterator[Path]:
    target.mkdir(parents=True, exist_ok=True)
    for part in source.iterdir():
        if part.is_dir() and part.name != "__pycache__":
            yield from _copied(part, target / part.name)
        elif part.is_file():
            with part.open("rb") as old, (target / part.name).open("xb") as new:
                shutil.copyfileobj(old, new)
            yield target / part.name


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _why(reasons: Sequence[object]) -> str:
    return ", ".join(map(str, reasons))


def _set_fields(item: MemoryItem) -> list[tuple[str, Json]]:
    """The fields of an item that say something."""
    return [
        (name, value)
        for name, value in _object(as_json(item)).items()
        if value is not None and value not in ("", [])
    ]


def _told(value: Json) -> str:
    """A value in one cell."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, list):
        return "; ".join(map(_told, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict), "a dataclass becomes an object"
    return value


Command = Callable[[Workplace], Answer]
COMMANDS: Mapping[str, Command] = {
    "capture": capture,
    "recall": recall,
    "search": search,
    "list": list_items,
    "tree": tree,
    "show": show_one,
    "forget": forget,
    "dump": dump,
    "load": load,
    "check": check,
    "stats": stats,
    "cubes": cubes,
    "examples": examples,
}
