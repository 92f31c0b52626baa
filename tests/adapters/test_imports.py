"""What an import loads: each adapter alone, and no framework before a name of its own is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = (
    "langchain",
    "langchain_core",
    "langchain_classic",
    "langgraph",
    "llama_index",
    "torch",
    "transformers",
)

REFUSE = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Refuse())
"""
TELL = """
import json
roots = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(roots & set(TOLD))))
"""


def loaded_by(code: str, *, refused: tuple[str, ...] = ()) -> list[str]:
    """Which frameworks a fresh process has loaded after some code, in which some cannot be imported."""
    script = f"REFUSED, TOLD = {refused!r}, {FRAMEWORKS!r}\n{REFUSE}{code}{TELL}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, list)
    return found


def test_without_any_framework() -> None:
    """The engine, the hooks and the packages of all adapters can be imported where no framework is installed."""
    code = """
import memos_engine, memos_adapters, memos_adapters.hooks
from memos_engine import *
from memos_adapters.hooks import *
import memos_adapters.langchain, memos_adapters.langgraph, memos_adapters.llamaindex
for package in (memos_adapters.langchain, memos_adapters.langgraph, memos_adapters.llamaindex):
    assert dir(package) == package.__all__
    try:
        package.nothing
    except AttributeError:
        continue
    raise AssertionError(package)
"""
    assert loaded_by(code, refused=FRAMEWORKS) == []


def test_hooks_work_without_any_framework(tmp_path: Path) -> None:
    """A turn of an agent's loop is remembered where no framework is installed."""
    code = f"""
from memos_adapters.hooks import MemoryHooks
from memos_engine import MemOS
from memos_engine.testing.fakes import HashEmbedder

with MemOS.open({str(tmp_path / "root")!r}, embedder=HashEmbedder(), background=False) as memos:
    hooks = MemoryHooks(memos, user_id="alice", min_score=0)
    with hooks.turn([{{"role": "user", "content": "I keep quokkas"}}], session_id="s") as turn:
        turn.answer("Nice.")
    assert "quokkas" in hooks.recall_before([{{"role": "user", "content": "quokkas?"}}]).text
"""
    assert loaded_by(code, refused=FRAMEWORKS) == []


def test_a_missing_framework_is_named() -> None:
    """Asked for a name whose framework is not installed, an adapter says which package it lacks."""
    code = """
import memos_adapters.langchain, memos_adapters.langgraph, memos_adapters.llamaindex
for package in (memos_adapters.langchain, memos_adapters.langgraph, memos_adapters.llamaindex):
    for name in package.__all__:
        try:
            getattr(package, name)
        except ModuleNotFoundError as exc:
            assert exc.name.partition(".")[0] in REFUSED, (name, exc)
            continue
        raise AssertionError(name)
"""
    assert loaded_by(code, refused=FRAMEWORKS) == []


@pytest.mark.parametrize("package", ["langchain", "langgraph", "llamaindex"])
def test_a_package_loads_nothing(package: str) -> None:
    """Importing an adapter's package alone loads no framework, though all are installed."""
    assert loaded_by(f"import memos_adapters.{package}\n") == []


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("langchain.MemosRetriever", {"langchain_core"}),
        ("langchain.MemosVectorStore", {"langchain_core"}),
        ("langchain.MemosChatMessageHistory", {"langchain_core"}),
        ("langchain.MemosChatModel", {"langchain_core"}),
        ("langgraph.MemosStore", {"langchain_core", "langgraph"}),
        ("langgraph.MemosSaver", {"langchain_core", "langgraph"}),
        ("llamaindex.MemosRetriever", {"llama_index"}),
        ("llamaindex.MemosMemory", {"llama_index"}),
        ("llamaindex.MemosLLM", {"llama_index"}),
    ],
)
def test_an_adapter_loads_its_own_framework_alone(name: str, needs: set[str]) -> None:
    """One name loads what it is built on, and works where the other frameworks are not installed."""
    package, _, kind = name.partition(".")
    others = tuple(framework for framework in FRAMEWORKS if framework not in needs)
    found = set(loaded_by(f"from memos_adapters.{package} import {kind}\n", refused=others))
    assert found <= needs
    assert found


@pytest.mark.parametrize(
    ("package", "name"),
    [("langchain", "MemosMemory"), ("langgraph", "MemosSaver"), ("llamaindex", "MemosMemory")],
)
def test_a_missing_framework_is_told_with_its_extra(package: str, name: str) -> None:
    """Whoever has not installed a framework is told what to type."""
    code = (
        "import sys\n"
        "for gone in ('langchain_core', 'langchain_classic', 'langgraph', 'llama_index'): sys.modules[gone] = None\n"
        f"import memos_adapters.{package} as adapter\n"
        f"try: adapter.{name}\n"
        "except ModuleNotFoundError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'memos-adapters[{package}]'" in done.stdout, done.stderr
