"""The public door: what it names is there, in order, and costs no vendor to open."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import memos_engine
from memos_engine import BadInput, MemOS, Scope, errors

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "chromadb", "langchain", "langchain_core", "langgraph", "llama_index", "networkx", "onnxruntime",
         "tokenizers", "transformers", "pydantic", "zstandard")  # fmt: skip


def test_names_are_sorted_and_once() -> None:
    """`__all__` is in order, as `sorted` with upper case first has it, without repeats."""
    names = memos_engine.__all__
    assert len(set(names)) == len(names)
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", memos_engine.__all__)
def test_names_are_there(name: str) -> None:
    """Every name can be imported, and says what it is."""
    value = getattr(memos_engine, name)
    assert value.__doc__
    assert value.__name__ == name
    assert name in dir(memos_engine)


LOCAL = ("Capabilities", "Generation", "KVBlock", "LocalModel", "ModelKey", "Rates")


@pytest.mark.parametrize("name", LOCAL)
def test_names_that_load_torch(name: str) -> None:
    """What needs torch is public by name, and not in `__all__`: a star import loads none."""
    value = getattr(memos_engine, name)
    assert value.__doc__
    assert value.__name__ == name
    assert name in dir(memos_engine)
    assert name not in memos_engine.__all__


def test_names_not_there() -> None:
    """A name that is not public is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = memos_engine.Nothing
    with pytest.raises(ImportError):
        importlib.import_module("memos_engine.nothing")


def test_every_error_is_public() -> None:
    """The whole tree of errors can be caught by name, and each is documented and of one base."""
    for name in errors.__all__:
        assert name in memos_engine.__all__
        assert issubclass(getattr(errors, name), errors.MemosError)


def run(code: str) -> list[str]:
    """What a fresh process prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_opening_the_door_loads_no_vendor() -> None:
    """Importing the engine, and every public name, loads no torch, no Chroma, no framework, no networkx."""
    loaded = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    assert run(f"from memos_engine import MemOS; {loaded}") == []
    assert run(f"from memos_engine import *; {loaded}") == []
    assert run(f"import memos_adapters.hooks; {loaded}") == []


def test_a_local_model_without_torch_says_what_to_install() -> None:
    """Where the extra is missing, the name is there, and asking for it tells how to get it."""
    told = run(
        "import json, sys; sys.modules['torch'] = None\n"
        "try:\n    from memos_engine import LocalModel\n"
        "except ImportError as exc:\n    print(json.dumps([str(exc)]))"
    )
    assert told == ["LocalModel needs torch, which is not installed: pip install 'memos-adapters[local]'"]


def test_a_small_cube_loads_no_vendor(tmp_path: Path) -> None:
    """What text memory does with a small cube, whatever budgets blocks have, needs neither torch nor Chroma."""
    code = (
        "from memos_engine import KVBudgets, MemOS, Message\n"
        "from memos_engine.testing.fakes import HashEmbedder\n"
        f"with MemOS.open({str(tmp_path / 'root')!r}, embedder=HashEmbedder(), background=False,\n"
        "                kv_budgets=KVBudgets(disk_bytes=7)) as memos:\n"
        "    cube = memos.cube('a'); said = cube.capture([Message('user', 'I moved to Lisbon')])\n"
        "    assert 'Lisbon' in cube.recall('Lisbon').text\n"
        f"    assert cube.check().ok; cube.dump({str(tmp_path / 'dump')!r}); cube.forget(said.episodes[0])\n"
        f"    memos.load({str(tmp_path / 'dump')!r}, name='b').rebuild(); memos.drain(); memos.delete('b')\n"
        "import json, sys\n"
        "heavy = ('torch', 'chromadb', 'langchain_core', 'onnxruntime')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    assert run(code) == []


def test_handles_are_shared_not_copied(memos: MemOS) -> None:
    """A copy of a handle, alone or within another object, is the handle: it works, and closes with it."""
    scoped = memos.acting_as(Scope(user="alice"))
    for handle in (memos, scoped, scoped.cube("diary")):
        assert copy.copy(handle) is handle
        assert copy.deepcopy({"of": [handle]})["of"][0] is handle
    copy.deepcopy(scoped).cube("diary").add("the kettle is blue")
    assert scoped.cube("diary").search("kettle")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_handles_are_not_pickled(memos: MemOS, protocol: int) -> None:
    """To pickle a handle is refused with what to do instead."""
    scoped = memos.acting_as(Scope(user="alice"))
    for handle in (memos, scoped, scoped.cube("diary")):
        with pytest.raises(BadInput, match=r"in the other process with MemOS\.open\(path\)"):
            pickle.dumps(handle, protocol)
