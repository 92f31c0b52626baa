"""The examples run as they are handed to users, with the real model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.smollm2 import smollm2_folder
from tests.weights import WeightsError, minilm_folder

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 280
QUESTIONS = 16
EVIDENCE_MIN = 9  # of the 14 questions that the conversation answers


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the examples on this checkout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, encoding="utf-8", check=False, timeout=TIMEOUT_S,
    )  # fmt: skip


@pytest.mark.slow
def test_remember_recalls_in_a_new_process_with_sources_and_reasons(tmp_path: Path) -> None:
    """01_remember.py captures, comes back in another process, and shows where each line is from and why."""
    try:
        model = minilm_folder()
    except WeightsError as exc:
        pytest.fail(str(exc), pytrace=False)
    done = run("examples/01_remember.py", str(tmp_path / "memories"), "--model", str(model))
    assert done.returncode == 0, done.stderr
    assert "Captured 224 new turns" in done.stdout
    assert done.stdout.count("<memories>") + done.stdout.count("(silence: ") == QUESTIONS
    assert re.search(r"  \d+ is s01-t05, found by dense #\d+ \(0\.\d\d\)", done.stdout)
    summary = re.search(r"^(\d+) of 14 questions had all their evidence", done.stdout, re.MULTILINE)
    assert summary is not None, done.stdout[-500:]
    assert int(summary[1]) >= EVIDENCE_MIN
    assert done.stdout.count("tokens; the evidence is in it") == int(summary[1]), "it counts what it shows"


REMEMBERED = {
    "02_langgraph_agent.py": [
        "in friday: Am I allergic to peanuts or to milk?\n    -> I remember: user: I'm allergic to peanuts.",
        "in saturday: Am I allergic to peanuts or to milk?\n    -> You have not told me.",
        "The thread monday has 6 messages; the store says {'language': 'pt'}",
    ],
    "03_langchain_chain.py": [
        "alice: What is the cat of Mia called?\n    -> I remember: user: Her cat is called Pixel.",
        "bob: What is the cat of Mia called?\n    -> You have not told me.",
        "Retrieved: ['My sister Mia lives in Porto.']",
    ],
    "04_llamaindex.py": [
        "alice@example.com to the agent: What is the cat of Mia called?\n    -> I remember: user: Her cat is",
        "bob@example.com to the agent: What is the cat of Mia called?\n    -> You have not told me.",
    ],
    "05_own_loop.py": [
        "alice in friday: Where do I keep the bees?\n    -> I remember: user: I keep bees on the roof.",
        "bob in friday: Where do I keep the bees?\n    -> You have not told me.",
        "Async: I remember: user: I keep bees on the roof.",
    ],
    "06_local_model.py": [
        "alice on friday: What is the cat of Mia called?\n    -> I remember: user: Her cat is called Pixel.",
        "alice on friday: Where does my sister Mia live?\n    -> I remember: user: My sister Mia lives in Porto.",
        "bob on friday: What is the cat of Mia called?\n    -> You have not told me.\n       0 memories",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("example", REMEMBERED)
def test_each_framework_remembers_its_user_and_no_other(tmp_path: Path, example: str) -> None:
    """An example of a framework tells one user what they said in another conversation, and tells the other nothing."""
    done = run(f"examples/{example}", str(tmp_path / "memories"))
    assert done.returncode == 0, done.stderr
    for lines in REMEMBERED[example]:
        assert lines in done.stdout


@pytest.mark.slow
def test_a_local_model_reads_the_first_turn_once(tmp_path: Path) -> None:
    """06_local_model.py runs a model of this machine, which does not read a conversation's first turn again."""
    done = run("examples/06_local_model.py", str(tmp_path / "memories"), "--model", str(smollm2_folder()))
    assert done.returncode == 0, done.stderr
    read = re.findall(r"(\d+) memories in the prompt of (\d+) tokens, (\d+) of them read before", done.stdout)
    counts = [tuple(map(int, found)) for found in read]
    assert len(counts) == 5
    (_, tokens, _), (_, _, known) = counts[:2]
    assert known > tokens // 2, "the second turn does not read the first again"
    assert counts[2][0] > 0
    assert counts[4][0] == 0, "nothing of alice's is in a prompt of bob's"


def test_an_unusable_model_is_told_and_fails(tmp_path: Path) -> None:
    """Without a model the example says what to do, and its exit code says that it failed."""
    done = run("examples/01_remember.py", str(tmp_path / "memories"), "--model", str(tmp_path))
    assert done.returncode == 1
    assert "EmbedderUnavailable" in done.stderr
    assert "Traceback" not in done.stderr
