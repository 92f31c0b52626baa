"""What importing the package loads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"langchain", "langchain_core", "langchain_classic", "langgraph"}:
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
import memos_adapters.llamaindex as adapter
assert not any(name.startswith("llama_index") for name in sys.modules), "the package alone loads a framework"
assert dir(adapter) == sorted(adapter.__all__)
for name in adapter.__all__:
    assert getattr(adapter, name).class_name() == name
try:
    adapter.Nothing
except AttributeError:
    print("done")
"""


def test_no_other_framework_is_imported() -> None:
    """Each name loads from LlamaIndex alone and knows its name; the package by itself loads no framework."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")
