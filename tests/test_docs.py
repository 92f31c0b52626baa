"""The documents keep their word: the README's code runs as pasted, and links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.weights import MINILM, minilm_folder

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
REVISION = "0" * 40


def hub_cache(folder: Path, models: Mapping[str, Path]) -> Path:
    """A Hugging Face home that holds models by their names, as if they had been fetched once."""
    for name, source in models.items():
        model = folder / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(source, model / "snapshots" / REVISION, copy_function=linked)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(REVISION, "utf-8")
    return folder


def linked(source: str, target: str) -> None:
    """A link to a file, or a copy of it where links are not allowed."""
    try:
        Path(target).symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def chat_model() -> dict[str, Path]:
    """The language model that documents name."""
    from tests.smollm2 import smollm2_folder  # noqa: PLC0415 -- torch, for few of these tests

    return {"HuggingFaceTB/SmolLM2-135M-Instruct": smollm2_folder()}


def outputs(document: Path, tmp_path: Path, models: Mapping[str, Path] | None = None) -> list[str]:
    """What a document's Python prints, block by block, each pasted into a file of one folder, by the default model.

    Args:
        models: What else the machine has, by name.
    """
    blocks = BLOCK.findall(document.read_text("utf-8"))
    assert blocks, "it shows code"
    home = hub_cache(tmp_path / "home", {MINILM.upstream: minilm_folder(), **(models or {})})
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_CACHE", None)
    printed = []
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block], cwd=work, env=environment,
            capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert [path.name for path in work.iterdir()] == ["memories"]
    return printed


def test_the_readmes_code_runs(tmp_path: Path) -> None:
    """The README's Python recalls what it captured."""
    for printed in outputs(ROOT / "README.md", tmp_path):
        assert "peanuts" in printed
        assert re.search(r"^1 ", printed, re.MULTILINE), "a context with handles"
        assert "dense #1" in printed


def test_the_guides_code_runs(tmp_path: Path) -> None:
    """The Python of the guide to recall runs from block to block, and prints the context that the guide shows."""
    guide = ROOT / "docs" / "recall.md"
    first, explained, *_ = outputs(guide, tmp_path)
    context, handle = first.rsplit("</memories>\n", 1)
    assert f"```\n{context}</memories>\n```" in guide.read_text("utf-8")
    assert handle == "3\n"
    assert explained.startswith("what, about Ann: What did make in the class?\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "shown"),
    [
        ("langchain", "Then no peanut bar.\nuser:alice@example.com"),
        ("langgraph", "Allergic to peanuts.\n3 checkpoints"),
        ("llamaindex", "1 user: I'm allergic to peanuts.\n"),
        ("hooks", "1 user: I moved to Lisbon in May"),
    ],
)
def test_the_frameworks_guides_run(tmp_path: Path, guide: str, shown: str) -> None:
    """The ten lines of each framework's guide remember from one conversation to the next; so does a local model."""
    printed, *local = outputs(ROOT / "docs" / f"{guide}.md", tmp_path, chat_model())
    assert shown in printed
    for each in local:
        assert re.search(r"^[1-9] memories in the prompt, read as text$", each, re.MULTILINE)
        assert re.search(r"'(input|prompt)_tokens': [1-9]\d", each)


@pytest.mark.slow
def test_the_guide_to_activation_runs(tmp_path: Path) -> None:
    """Its Python builds a block, answers with it, and finds it gone with what was forgotten."""
    (printed,) = outputs(ROOT / "docs" / "activation.md", tmp_path, chat_model())
    made, *answer, how, gone = printed.splitlines()
    assert re.fullmatch(r"\d+ tokens in \d+ kB", made)
    assert "bread basket" in " ".join(answer)
    assert re.fullmatch(r"exact rounded \d+ of \d+", how)
    assert gone.startswith("[] ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document names a file or folder that is there."""
    targets = [target.partition("#")[0] for target in LINK.findall(document.read_text("utf-8"))]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (document.parent / target).exists()] == []
