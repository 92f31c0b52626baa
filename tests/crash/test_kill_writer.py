"""What was acknowledged outlives a kill at any moment; what was not is whole or not there."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memos_engine import MemCube, MemoryItem, MemOS
from memos_engine.store.resident import VECTORS
from memos_engine.store.stamp import read_stamp
from tests.crash.writer import CUBE, open_root

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 100
INDEX_EVERY = 8
"""Each so manieth round has Chroma at work during the kill."""
QUERIES = 12


@dataclass
class Ledger:
    """What the killed processes said, made certain by what was found."""

    batches: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tag -> ids and texts."""
    gone: set[str] = field(default_factory=set)
    """Ids that were forgotten."""
    entries: dict[str, object] = field(default_factory=dict)

    def read(self, output: str, cube: MemCube) -> set[str]:
        """Take in what one process printed before it died; return the tags it wrote or changed."""
        lines = [json.loads(line) for line in output.split("\n")[:-1]]  # a line without its end was not said
        begun: dict[tuple[str, str], dict[str, Any]] = {}
        for line in lines:
            if line["when"] == "done":
                del begun[line["verb"], line["tag"]]
                self._done(line)
            else:
                begun[line["verb"], line["tag"]] = line
        assert len(begun) <= 3, "each thread does one thing at a time"
        for line in begun.values():
            if self._happened(line, cube):
                self._done(line)
        return {line["tag"] for line in lines if line["verb"] != "put"}

    def _done(self, line: dict[str, Any]) -> None:
        tag = line["tag"]
        match line["verb"]:
            case "write":
                self.batches[tag] = line["items"]
            case "update":
                self.batches[tag][line["id"]] = line["text"]
            case "forget":
                self.gone |= set(self.batches.pop(tag))
            case "put":
                self.entries[tag] = line["value"]

    def _happened(self, line: dict[str, Any], cube: MemCube) -> bool:
        """Whether what was begun was done: wholly, or not at all, by the caller's comparison."""
        tag = line["tag"]
        match line["verb"]:
            case "write":
                items = {item.id: item.text for item in found_by(cube, tag, len(line["texts"]))}
                assert sorted(items.values()) in ([], sorted(line["texts"]))
                line["items"] = items
                return bool(items)
            case "update":
                return bool(cube.get(line["id"]).text == line["text"])
            case "forget":
                return not found_by(cube, tag, 0)
            case _:
                entry = cube.kv.get(("n",), tag)
                return entry is not None and entry.value == line["value"]


def found_by(cube: MemCube, tag: str, size: int) -> list[MemoryItem]:
    """The items that keyword search finds by the tag of their batch, which has about so many."""
    hits = cube.search(tag, limit=20 + 4 * size)
    return [hit.item for hit in hits if any(reason.retriever == "keyword" for reason in hit.why)]


def spawn(root: Path, round_: int, seed: int) -> subprocess.Popen[str]:
    """A writer that waits for the word; what it says goes to a file, which no kill empties."""
    index = ["index"] if round_ % INDEX_EVERY == INDEX_EVERY - 1 else []
    with said_by(root, round_).open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.writer", str(root), str(round_), str(seed + round_), *index],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


def said_by(root: Path, round_: int) -> Path:
    """What the process of a round said."""
    return root.parent / f"said-{round_}"


def kill(child: subprocess.Popen[str], delay_s: float) -> None:
    """Give it the word, let it write for a while, and kill it."""
    assert child.stdin is not None
    assert child.stderr is not None
    assert child.stderr.readline() == "ready\n"
    child.stdin.write("go\n")
    child.stdin.flush()
    time.sleep(delay_s)
    child.kill()
    _, faults = child.communicate()
    assert faults == "", "it writes until it is killed"


def compare(cube: MemCube, ledger: Ledger, touched: set[str]) -> None:
    """Assert that the cube is whole and holds what the ledger says, no more and no less."""
    report = cube.check()
    assert report.ok, report.problems
    items = cube.list(limit=100_000)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        assert item.kind in ("episode", "note")
        if item.key is None:
            found[item.text.split()[0]][item.id] = item.text
    assert found == ledger.batches
    assert not {item.id for item in items} & ledger.gone
    assert {item.key: item.value for item in items if item.key is not None} == ledger.entries
    for tag in sorted(touched):
        batch = ledger.batches.get(tag, {})
        assert {item.id for item in found_by(cube, tag, len(batch))} == batch.keys()
    for tag in sorted(touched & ledger.batches.keys())[:20]:
        id_, text = next(iter(ledger.batches[tag].items()))
        assert id_ in {hit.item.id for hit in cube.search(text, limit=20)}
        assert len(cube.history(id_)) == cube.get(id_).version


def assert_index_is_whole(memos: MemOS, cube: MemCube, seed: int) -> None:
    """Assert that after `drain` an index serves, lacks nothing, and finds what an exact scan finds."""
    memos.drain(timeout_s=60)
    shelf = memos._host.shelf(cube.id)
    with shelf.file.read() as reader:
        embedder = reader.embedder()
        assert embedder is not None
        ids, refs, rows = reader.vectors(embedder)
        assert shelf.resident.indexed_to == ids[-1]
        assert shelf.resident.problems(reader) == []
        chosen = random.Random(seed).sample(range(len(ids)), QUERIES)
        same = 0
        for place in chosen:
            near = shelf.resident.nearest(reader, rows[place], 10)
            assert near[0][1] == pytest.approx(1.0, abs=1e-5)
            scores = {int(ref): float(score) for ref, score in zip(refs, rows @ rows[place], strict=True)}
            assert [scores[ref] for ref, _ in near] == pytest.approx([score for _, score in near], abs=1e-5)
            exact = np.sort(rows @ rows[place])[::-1][:10]
            same += np.allclose([score for _, score in near], exact, atol=1e-5)
    assert same >= 0.75 * QUERIES, "HNSW may miss a neighbour now and then"


@pytest.mark.slow
def test_no_acknowledged_write_is_lost(tmp_path: Path) -> None:
    """A hundred kills of a process with three writing threads, every eighth while Chroma flushes."""
    seed = random.randrange(2**32)
    print("seed", seed)
    delays = random.Random(seed)
    ledger = Ledger()
    root = tmp_path / "root"
    torn = 0
    child = spawn(root, 0, seed)
    try:
        for round_ in range(ROUNDS):
            indexed = round_ % INDEX_EVERY == INDEX_EVERY - 1
            kill(child, delays.uniform(0.1, 0.6) if indexed else delays.uniform(0.0, 0.2))
            child = spawn(root, round_ + 1, seed)  # it starts while this process compares
            output = said_by(root, round_).read_text()
            with open_root(root, indexed=indexed) as memos:
                cube = memos.cube(CUBE)
                stamp = read_stamp(memos._host.shelf(cube.id).file.folder / VECTORS)
                torn += indexed and stamp is not None and not stamp.clean
                compare(cube, ledger, ledger.read(output, cube))
                if indexed:
                    assert_index_is_whole(memos, cube, seed)
                    compare(cube, ledger, set(sorted(ledger.batches)[-20:]))
            print("round", round_, "said", len(output), "characters, torn so far", torn)
    finally:
        child.kill()
        child.communicate()
    assert len(ledger.batches) > ROUNDS, "enough was written to tell"
    assert torn, "Chroma was at work during some kill"
