"""A process is killed in the middle of a run: what was stored is whole, and the run goes on from there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from memos_adapters.langgraph.saver import MemosSaver
from tests.adapters.langgraph.saver_cases import config, found
from tests.adapters.langgraph.saver_process import stepping

ROOT = Path(__file__).parent.parent.parent.parent
GUARD_S = 60.0


def killed_while_running(folder: Path, delay_s: float) -> int:
    """Kill a run after a while and return how many steps it began."""
    ran = folder / "ran"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.adapters.langgraph.saver_process", str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        deadline = time.monotonic() + GUARD_S
        while not ran.exists() or ran.read_bytes().count(b"\n") < 5:
            assert time.monotonic() < deadline, "it never got to its fifth step"
            time.sleep(0.002)
        time.sleep(delay_s)
    finally:
        child.kill()
        _, faults = child.communicate()
    assert faults == "", "it runs until it is killed"
    return ran.read_bytes().count(b"\n")


@pytest.mark.parametrize("delay_s", [0.0, 0.02])
def test_a_killed_run_goes_on(tmp_path: Path, delay_s: float) -> None:
    """From the last stored step: at most the one in flight is run again, none is lost, none counts twice."""
    begun = killed_while_running(tmp_path, delay_s)
    ran = tmp_path / "ran"
    with MemosSaver.from_conn_string(tmp_path / "memories") as saver:
        for each in saver.list(config()):
            values = each.checkpoint["channel_values"]
            assert [n for n in values.get("seen", []) if n >= 0] == list(range(values.get("n", 0)))
        left = found(saver, config())
        stored = left.checkpoint["channel_values"]["n"]
        assert begun - 2 <= stored <= begun
        graph = stepping(ran, steps=stored + 3).compile(checkpointer=saver)
        done = graph.invoke(None, config(), durability="sync")
        assert [n for n in done["seen"] if n >= 0] == list(range(stored + 3))
        assert done["seen"].count(-1) == stored + 2
        steps = [int(line) for line in ran.read_text().split()]
        assert steps[begun:] in (list(range(stored, stored + 3)), list(range(stored + 1, stored + 3)))
        with saver._threads._database.reading() as connection:
            assert connection.pragma("integrity_check") == "ok"
