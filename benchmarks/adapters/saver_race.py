"""`MemosSaver` beside LangGraph's SqliteSaver on one graph of many steps, in turns.

A whole run is timed as a graph makes it. `put`, `put_writes` and `get_tuple` are timed apart from it: the
calls of one run were recorded, and each saver is handed the same ones again, in a thread of its own name.
"""

from __future__ import annotations

import copy
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from benchmarks.adapters.durability import IN_MEMORY, of_threads, told
from benchmarks.adapters.legs import p50_ms, rounded
from benchmarks.adapters.store_race import disk_bytes
from benchmarks.machine import Row
from benchmarks.report import Ratio, quotient
from memos_adapters.langgraph import MemosSaver
from memos_engine import MemOS

WORDS = "What a step of an agent has to say is about this long, give or take a few words."
DOCUMENT = 120 * WORDS
"""About 10 kB."""
READS = 20
"""Of the latest checkpoint, a round."""
COLUMNS = (
    "system", "state", "steps", "put_ms_p50", "put_writes_ms_p50", "run_s_p50", "get_tuple_ms_p50", "disk_kb",
    "durability",
)  # fmt: skip


class Small(TypedDict):
    """A state that stays small: what a checkpoint costs at the least."""

    step: int


class Reading(TypedDict):
    """A state with a document that no step changes."""

    step: int
    document: str


class Talk(TypedDict):
    """A state that grows by a message a step."""

    step: int
    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True, slots=True)
class State:
    """What a graph holds, and what its steps do to it."""

    schema: type[Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    """Beside the number of the step, 0."""
    written: Callable[[int], Mapping[str, Any]] | None = None
    """By a step, beside its number."""


def _message(step: int) -> Mapping[str, Any]:
    return {"messages": [AIMessage(WORDS, id=f"step-{step}")]}


STATES = {
    "a number": State(Small),
    "a document that stays": State(Reading, {"document": DOCUMENT}),
    "a message more each step": State(Talk, written=_message),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    steps: int
    rounds: int
    """Runs of the graph, and as many replays of its calls."""


FULL = Plan(steps=100, rounds=7)
QUICK = Plan(steps=100, rounds=1)


@dataclass(frozen=True, slots=True)
class Put:
    """One `put` of a run."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    versions: ChannelVersions


@dataclass(frozen=True, slots=True)
class Writes:
    """One `put_writes` of a run."""

    config: RunnableConfig
    writes: Sequence[tuple[str, Any]]
    task: str
    path: str


class Recorder(InMemorySaver):
    """Keeps what a graph asks it to keep, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Put | Writes] = []

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self.calls.append(Put(*copy.deepcopy((_plain(config), checkpoint, metadata, new_versions))))
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.calls.append(Writes(*copy.deepcopy((_plain(config), writes)), task_id, task_path))
        super().put_writes(config, writes, task_id, task_path)


@dataclass(slots=True)
class Measured:
    """What one saver did."""

    durability: str
    runs: list[float] = field(default_factory=list)
    puts: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)


def saver_rows(folder: Path, plan: Plan) -> list[Row]:
    """One row a saver and state."""
    return [row for number, state in enumerate(STATES) for row in _race(folder / f"{number}", state, plan)]


def _race(folder: Path, state: str, plan: Plan) -> list[Row]:
    recorder = Recorder()
    _run(recorder, state, plan.steps, "recorded")
    measured: dict[str, Measured] = {}
    with ExitStack() as stack:
        savers: dict[str, BaseCheckpointSaver[Any]] = {}
        for name, opened in SAVERS.items():
            place = folder / name
            place.mkdir(parents=True)
            savers[name], durability = stack.enter_context(opened(place))
            measured[name] = Measured(durability)
        for n in range(plan.rounds):
            for name, saver in savers.items():
                measured[name].runs.append(_run(saver, state, plan.steps, f"run-{n}"))
                _replay(saver, recorder.calls, f"replay-{n}", measured[name])
    threads = 2 * plan.rounds
    return [
        _row(name, state, plan.steps, each, disk_bytes(folder / name) / threads)
        for name, each in measured.items()
    ]


def _run(saver: BaseCheckpointSaver[Any], state: str, steps: int, thread: str) -> float:
    """Seconds of a whole run."""
    kept = STATES[state]

    def step(now: dict[str, Any]) -> dict[str, Any]:
        number = now["step"] + 1
        return {"step": number, **(kept.written(number) if kept.written else {})}

    builder: Any = StateGraph(kept.schema)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda now: END if now["step"] >= steps else "step")
    graph = builder.compile(checkpointer=saver)
    start = time.perf_counter()
    graph.invoke(
        {"step": 0, **kept.given}, {"configurable": {"thread_id": thread}, "recursion_limit": 2 * steps}
    )
    return time.perf_counter() - start


def _replay(
    saver: BaseCheckpointSaver[Any], calls: Sequence[Put | Writes], thread: str, measured: Measured
) -> None:
    for call in calls:
        config = _of_thread(call.config, thread)
        start = time.perf_counter()
        if isinstance(call, Put):
            saver.put(config, call.checkpoint, call.metadata, call.versions)
            measured.puts.append(time.perf_counter() - start)
        else:
            saver.put_writes(config, call.writes, call.task, call.path)
            measured.writes.append(time.perf_counter() - start)
    latest: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    for _ in range(READS):
        start = time.perf_counter()
        assert saver.get_tuple(latest) is not None, "a thread that was just written"
        measured.reads.append(time.perf_counter() - start)


def _plain(config: RunnableConfig) -> RunnableConfig:
    """A config without what only the graph that made it understands."""
    named = config["configurable"]
    return {
        "configurable": {
            name: named[name] for name in ("thread_id", "checkpoint_ns", "checkpoint_id") if name in named
        }
    }


def _of_thread(config: RunnableConfig, thread: str) -> RunnableConfig:
    return {"configurable": {**config["configurable"], "thread_id": thread}}


Opened = AbstractContextManager[tuple[BaseCheckpointSaver[Any], str]]


@contextmanager
def _ours(folder: Path) -> Iterator[tuple[BaseCheckpointSaver[Any], str]]:
    with MemOS.open(folder, background=False) as memos:
        yield MemosSaver(memos), of_threads(memos.threads)


def _sqlite(synchronous: str | None) -> Callable[[Path], Opened]:
    """SqliteSaver as its documentation opens it, or with another `synchronous`."""

    @contextmanager
    def opened(folder: Path) -> Iterator[tuple[BaseCheckpointSaver[Any], str]]:
        with closing(sqlite3.connect(str(folder / "checkpoints.db"), check_same_thread=False)) as connection:
            if synchronous is not None:
                connection.execute(f"PRAGMA synchronous={synchronous}")
            saver = SqliteSaver(connection)
            saver.setup()
            yield saver, told(lambda name: connection.execute(f"PRAGMA {name}").fetchone()[0])

    return opened


@contextmanager
def _memory(_: Path) -> Iterator[tuple[BaseCheckpointSaver[Any], str]]:
    yield InMemorySaver(), IN_MEMORY


SAVERS: Mapping[str, Callable[[Path], Opened]] = {
    "MemosSaver": _ours,
    "SqliteSaver": _sqlite(None),
    "SqliteSaver, FULL": _sqlite("FULL"),
    "SqliteSaver, NORMAL": _sqlite("NORMAL"),
    "InMemorySaver": _memory,
}


def _row(name: str, state: str, steps: int, measured: Measured, disk_bytes_each: float) -> Row:
    return {
        "section": "savers",
        "system": name,
        "state": state,
        "steps": steps,
        "put_ms_p50": p50_ms(measured.puts),
        "put_writes_ms_p50": p50_ms(measured.writes),
        "run_s_p50": rounded(median(measured.runs)),
        "get_tuple_ms_p50": p50_ms(measured.reads),
        "disk_kb": rounded(disk_bytes_each / 1024) if disk_bytes_each else None,
        "durability": measured.durability,
    }


def saver_ratios(rows: Sequence[Row]) -> list[Ratio]:
    """`MemosSaver` beside SqliteSaver, both durable at each commit."""
    found = []
    empty: Row = {}
    for state in dict.fromkeys(row["state"] for row in rows):
        by_name = {row["system"]: row for row in rows if row["state"] == state}
        ours, full = by_name.get("MemosSaver", empty), by_name.get("SqliteSaver, FULL", empty)
        parts = (
            ("put p50", "put_ms_p50"),
            ("put_writes p50", "put_writes_ms_p50"),
            ("whole run", "run_s_p50"),
            ("get_tuple p50", "get_tuple_ms_p50"),
            ("disk", "disk_kb"),
        )
        found += [
            Ratio(
                f"state: {state}, MemosSaver {what} / SqliteSaver's with FULL",
                quotient(ours.get(m), full.get(m)),
                None,
            )
            for what, m in parts
        ]
    return found
