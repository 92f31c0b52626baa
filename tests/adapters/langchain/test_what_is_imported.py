"""Each module of the LangChain adapter loads what it is built on, and no other framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"langchain", "langchain_classic", "langchain_core", "langgraph", "llama_index"}
NEEDED = {
    "memos_adapters.langchain": set[str](),
    "memos_adapters.langchain.byte_store": {"langchain_core"},
    "memos_adapters.langchain.chat_history": {"langchain_core"},
    "memos_adapters.langchain.chat_model": {"langchain_core"},
    "memos_adapters.langchain.classic": {"langchain_core", "langchain_classic"},
    "memos_adapters.langchain.embeddings": {"langchain_core"},
    "memos_adapters.langchain.retriever": {"langchain_core"},
    "memos_adapters.langchain.vectorstore": {"langchain_core"},
}
IMPORT_WITHOUT = """
import importlib, sys

refused = set(sys.argv[2:])

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
importlib.import_module(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("module", NEEDED)
def test_a_module_needs_its_own_packages_alone(module: str) -> None:
    """It can be imported where no other framework is installed, and loads none of the engine's heavy parts."""
    refused = sorted(FRAMEWORKS - NEEDED[module])
    command = [sys.executable, "-c", IMPORT_WITHOUT, module, *refused]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded & FRAMEWORKS == NEEDED[module]
    assert not loaded & {"torch", "transformers", "chromadb"}
