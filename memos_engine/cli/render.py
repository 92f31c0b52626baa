"""How an outcome is shown: tables on a terminal, tab-separated lines in a pipe, or one JSON document.

Memory text is printed as text: its control characters are replaced, so that it cannot steer a terminal.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from memos_engine.items import Json, MemoryItem, TreeNode

Advance: TypeAlias = Callable[[int, int | None], None]
"""Told (done, total); a total of None is not known."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_FAINT = "dim"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found or did."""

    data: Mapping[str, Json]
    """The JSON document."""
    show: Callable[[Screen], None]
    """Shows it to a person, or to a pipe."""
    code: int = 0
    """The exit code."""


class Screen:
    """Where a command speaks: results to stdout, everything else to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        """Speak to the streams as they are now."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8" if as_json else None, errors="backslashreplace")
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=False)
        self._err = Console(stderr=True, highlight=False)

    def answer(self, answer: Answer) -> None:
        """Show an answer in the form that was asked for."""
        if self.as_json:
            print(json.dumps(answer.data, ensure_ascii=False))
        else:
            answer.show(self)
        sys.stdout.flush()

    def error(self, kind: str, message: str) -> None:
        """Tell what went wrong."""
        if self.as_json:
            told = json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False)
        else:
            told = f"memcube: {printable(message)}"
        print(told, file=sys.stderr)

    def note(self, text: str) -> None:
        """Say something that is no result."""
        if not self.as_json:
            print(printable(text), file=sys.stderr)

    def line(self, text: str) -> None:
        """Print text, line breaks included."""
        print(printable(text))

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the results."""
        return self._out.is_terminal

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """A table on a terminal, else its rows with tabs between the cells. The last column is the widest."""
        if not self.is_terminal:
            for row in rows:
                print("\t".join(" ".join(printable(str(cell)).split()) for cell in row))
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns[:-1]:
            table.add_column(column, no_wrap=True)
        table.add_column(columns[-1], ratio=1, overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
        self._out.print(table)

    def memories(
        self, head: Sequence[str], rows: Sequence[tuple[Sequence[str], MemoryItem, Sequence[str]]]
    ) -> None:
        """Memories with cells of `head` before each, and notes behind it.

        A terminal shows id and notes in a faint line below the text; a pipe gets id, kind, time, speaker,
        text and notes as cells of one line.
        """
        if not self.is_terminal:
            plain: list[list[str | Text]] = [
                [*cells, item.id, item.kind, moment(item), item.speaker or "", item.text, *notes]
                for cells, item, notes in rows
            ]
            self.table((), plain)
            return
        shown: list[list[str | Text]] = [
            [*cells, moment(item), item.kind, _cell(item, notes)] for cells, item, notes in rows
        ]
        self.table((*head, "when (UTC)", "kind", "memory"), shown)

    def tree(self, nodes: Sequence[TreeNode]) -> None:
        """Nodes with what is below them; a pipe gets level, kind, count, id and text as cells of one line."""
        if not self.is_terminal:
            self.table(
                (),
                [
                    [str(level), node.kind, str(node.count), node.id, node.text]
                    for level, node in _flat(nodes)
                ],
            )
            return
        for node in nodes:
            root = Tree(_label(node), guide_style=_FAINT)
            _grow(root, node)
            self._out.print(root)

    def ask(self, question: str) -> bool | None:
        """Ask yes or no. None: there is nobody to ask."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().casefold() in {"y", "yes"}

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        """A bar on stderr while something long goes on; nothing when stderr is no terminal."""
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            console=self._err, transient=True, disable=not self._err.is_terminal,
        )  # fmt: skip
        with bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def printable(text: str) -> str:
    """Text without characters that steer a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def moment(item: MemoryItem) -> str:
    """When it happened, else when it was written."""
    at = item.event_at or item.created_at
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def _cell(item: MemoryItem, notes: Sequence[str]) -> Text:
    said = f"{item.speaker}: {item.text}" if item.speaker else item.text
    cell = Text(printable(said))
    cell.append("\n" + printable("  ".join((item.id, *notes))), style=_FAINT)
    return cell


def _label(node: TreeNode) -> Text:
    label = Text(printable(" ".join(node.text.split())), style="bold" if node.kind == "topic" else "")
    label.append(f"  {node.count:,}" if node.count else f"  {node.kind}", style=_FAINT)
    return label


def _grow(branch: Tree, node: TreeNode) -> None:
    for child in node.children:
        _grow(branch.add(_label(child)), child)


def _flat(nodes: Sequence[TreeNode], level: int = 1) -> Iterator[tuple[int, TreeNode]]:
    for node in nodes:
        yield level, node
        yield from _flat(node.children, level + 1)


def as_json(value: object) -> Json:
    """A value of the engine as JSON: dataclasses as objects, times in ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    assert value is None or isinstance(value, (bool, int, float, str)), f"{type(value)} has no JSON form"
    return value
