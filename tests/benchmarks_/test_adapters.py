"""The adapters' benchmark: legs, ratios, and a run of every section on a few items."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.adapters.__main__ import main
from benchmarks.adapters.durability import IN_MEMORY
from benchmarks.adapters.legs import Case, Mode, Turns, composed, in_turns, overhead
from benchmarks.adapters.report import overhead_ratios
from benchmarks.adapters.saver_race import STATES, saver_ratios, saver_rows
from benchmarks.adapters.saver_race import Plan as SaverPlan
from benchmarks.adapters.store_race import Plan as StorePlan
from benchmarks.adapters.store_race import StoreRace, store_ratios
from benchmarks.machine import Row

FRAMEWORKS = {"langchain", "langgraph", "llamaindex", "hooks"}


def took(seconds: float, mode: Mode = "sync") -> object:
    """What a leg returns that timed itself, now or when it is awaited."""
    return asyncio.sleep(0, seconds) if mode == "async" else seconds


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_adapter_is_measured_by_its_parts(mode: Mode) -> None:
    """The ratio is the adapter's median over the median of bare and floor together; slow first calls do not count."""

    def slow_at_first(n: int) -> object:
        return took(9.0 if n < 2 else 0.012, mode)

    case = Case("thing", mode, slow_at_first, lambda _: took(0.008, mode), lambda _: took(0.002, mode))
    row = overhead(case, Turns(warm=2, calls=3), items=7)
    assert row["system"] == "thing"
    assert row["mode"] == mode
    assert row["items"] == 7
    assert [row[f"{leg}_ms_p50"] for leg in ("adapter", "bare", "floor")] == [12, 8, 2]
    assert row["ratio"] == 1.2
    assert isinstance(row["cpu_ratio"], float)


def test_a_call_that_does_not_time_itself_is_timed() -> None:
    """Seconds by the wall clock and of the processor: who waits spends the one and not the other."""
    spent = in_turns([{"waits": lambda _: asyncio.sleep(0.02)}], Turns(0, 2), "async")["waits"]
    assert min(spent.wall_s) >= 0.015
    assert max(spent.cpu_s) < max(spent.wall_s)


def test_legs_take_turns() -> None:
    """Every group comes first in turn, for the same n; the legs of a group stay together."""
    heard: list[str] = []
    legs = {name: lambda n, name=name: heard.append(f"{name}{n}") for name in "abf"}
    groups = [{"a": legs["a"]}, {"b": legs["b"], "f": legs["f"]}]
    in_turns(groups, Turns(warm=1, calls=2))
    assert heard == ["a0", "b0", "f0", "b1", "f1", "a1", "a2", "b2", "f2"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_bare_calls_are_made_one_after_the_other(mode: Mode) -> None:
    """Blocking calls keep their order in a coroutine too."""
    heard: list[str] = []
    call = composed(mode, lambda n: heard.append(f"first {n}"), lambda n: heard.append(f"second {n}"))
    in_turns([{"bare": call}], Turns(0, 1), mode)
    assert heard == ["first 0", "second 0"]


def test_overhead_is_judged() -> None:
    """A tenth more than its parts is allowed."""
    rows: list[Row] = [{"system": "thing", "mode": "sync", "ratio": ratio} for ratio in (1.1, 1.11)]
    assert [ratio.verdict for ratio in overhead_ratios(rows)] == ["PASS", "MISS"]


def test_stores_are_compared_size_by_size() -> None:
    """Quotients to SqliteStore's; more items, a stricter target of a query; what is not measured is not judged."""
    rows: list[Row] = [
        {"system": "MemosStore", "items": 1000, "query_ms_p50": 3.0, "disk_mb": 4.0},
        {"system": "SqliteStore", "items": 1000, "query_ms_p50": 4.0, "disk_mb": 2.0},
        {"system": "MemosStore", "items": 10_000, "query_ms_p50": 3.0},
        {"system": "SqliteStore", "items": 10_000, "query_ms_p50": 4.0},
    ]
    found = {ratio.claim: ratio for ratio in store_ratios(rows)}
    small = found["1,000 items, MemosStore search by query p50 / SqliteStore's"]
    large = found["10,000 items, MemosStore search by query p50 / SqliteStore's"]
    assert (small.value, small.verdict) == (0.75, "PASS")
    assert (large.value, large.verdict) == (0.75, "MISS")
    assert found["1,000 items, MemosStore disk / SqliteStore's"].value == 2
    assert found["10,000 items, MemosStore disk / SqliteStore's"].value is None


def test_savers_of_equal_durability_are_compared() -> None:
    """The other saver's row is the one with synchronous=FULL."""
    rows: list[Row] = [
        {"system": name, "state": "a number", "put_ms_p50": put}
        for name, put in (("MemosSaver", 3.0), ("SqliteSaver, NORMAL", 1.0), ("SqliteSaver, FULL", 2.0))
    ]
    values = [ratio.value for ratio in saver_ratios(rows)]
    assert values == [1.5, None, None, None, None]


def test_stores_run(tmp_path: Path) -> None:
    """Each store that is installed does all there is to do, and says when it is durable."""
    plan = StorePlan(rounds=2, puts=2, gets=3, queries=3, listings=1, seconds_max=60)
    rows = {row["system"]: row for row in StoreRace(30, plan, tmp_path / "race", seed=1).run()}
    assert {"MemosStore", "InMemoryStore"} <= set(rows)
    for row in rows.values():
        measured = [value for metric, value in row.items() if metric.endswith(("_p50", "per_s"))]
        assert all(isinstance(value, float) and value > 0 for value in measured)
        assert row["query_found"] == 1
        assert row["queries"] == 6
    assert rows["MemosStore"]["durability"] == "wal, synchronous=FULL"
    assert rows["InMemoryStore"]["durability"] == IN_MEMORY
    assert rows["InMemoryStore"]["disk_mb"] is None


def test_savers_run(tmp_path: Path) -> None:
    """Each saver takes what a graph and a replay of it hand over, on every state."""
    rows = saver_rows(tmp_path, SaverPlan(steps=4, rounds=1))
    assert [row["state"] for row in rows if row["system"] == "MemosSaver"] == list(STATES)
    durable = {row["system"]: row["durability"] for row in rows}
    assert durable["MemosSaver"] == durable["SqliteSaver, FULL"] == "wal, synchronous=FULL"
    assert durable["SqliteSaver, NORMAL"] == "wal, synchronous=NORMAL"
    assert durable["InMemorySaver"] == IN_MEMORY
    for row in rows:
        assert all(isinstance(row[m], float) for m in ("put_ms_p50", "put_writes_ms_p50", "run_s_p50"))
        assert (row["disk_kb"] is None) is (row["system"] == "InMemorySaver")


def test_overhead_and_first_tokens_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every framework's adapters are measured, sync and async; the file holds the rows, the machine, the versions."""
    results = tmp_path / "results.json"
    sizes = ["--quick", "--items", "20", "--calls", "1", "--folder", str(tmp_path)]
    assert main([*sizes, "--sections", "overhead", "first-token", "--json", str(results)]) == 0
    document = json.loads(results.read_text(encoding="utf-8"))
    rows = [row for row in document["results"] if row["section"] == "overhead"]
    assert {row["system"].split()[0] for row in rows} == FRAMEWORKS
    assert {row["mode"] for row in rows} == {"sync", "async"}
    assert all(row["ratio"] > 0 for row in rows)
    tokens = [row for row in document["results"] if row["section"] == "first token"]
    assert [row["mode"] for row in tokens] == ["sync", "async"]
    assert all(row["without_ms_p50"] >= 20 for row in tokens)
    assert document["machine"]["packages"]["llama-index-core"]
    assert "langgraph MemosStore.put, async / (bare + floor)" in capsys.readouterr().out


def test_a_framework_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same, and it is told."""
    monkeypatch.setattr("benchmarks.adapters.__main__.FRAMEWORKS", ("nonesuch", "hooks"))
    sizes = ["--items", "20", "--calls", "1", "--folder", str(tmp_path)]
    assert main([*sizes, "--sections", "overhead"]) == 0
    told = capsys.readouterr()
    assert "nonesuch is left out" in told.err
    assert "hooks MemoryHooks.turn" in told.out
