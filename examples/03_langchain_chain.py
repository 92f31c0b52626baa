"""A classic LangChain chain with a memory that outlives it: one line changes, `memory=`.

    pip install 'memos-adapters[langchain-classic]'
    python 03_langchain_chain.py [FOLDER]

For new code LangChain has agents: see 02_langgraph_agent.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from langchain_classic.chains import ConversationChain
from langchain_core.language_models import LLM
from langchain_core.prompts import PromptTemplate
from offline import embedder, reply

from memos_adapters.langchain import MemosMemory, MemosRetriever
from memos_engine import MemOS

PROMPT = PromptTemplate.from_template("{history}\n\nHuman: {input}\nAI:")


class OfflineModel(LLM):
    """Put any other language model here."""

    def _call(self, prompt: str, *_: Any, **__: Any) -> str:
        return reply(prompt, prompt.rpartition("Human: ")[2].partition("\n")[0])

    @property
    def _llm_type(self) -> str:
        return "offline"


def main() -> int:
    """Talk in one chain, ask in another."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the memories (default: a temporary one)")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="memories-"))
    warnings.filterwarnings("ignore", message=".*ConversationChain.*")  # classic chains are deprecated
    with MemOS.open(folder, embedder=embedder()) as memos:

        def chain(user: str, session: str) -> ConversationChain:
            memory = MemosMemory(memos, user_id=user, session_id=session)
            return ConversationChain(llm=OfflineModel(), prompt=PROMPT, memory=memory)

        monday = chain("alice", "monday")
        for text in ("My sister Mia lives in Porto.", "Her cat is called Pixel."):
            print(f"alice: {text}\n    -> {monday.predict(input=text)}")
        for user in ("alice", "bob"):
            question = "What is the cat of Mia called?"
            print(f"{user}: {question}\n    -> {chain(user, 'friday').predict(input=question)}")

        retriever = MemosRetriever(memos, k=1)  # the same memories in any LCEL chain
        found = retriever.invoke("Where does Mia live?", {"configurable": {"user_id": "alice"}})
        print("Retrieved:", [document.page_content for document in found])
    return 0


if __name__ == "__main__":
    sys.exit(main())
