"""A LlamaIndex chat engine and an agent that share a user's memory across sessions.

pip install 'memos-adapters[llamaindex]'
python 04_llamaindex.py [FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from offline import embedder, reply

from memos_adapters.llamaindex import MemosMemory
from memos_engine import MemOS


class OfflineModel(CustomLLM):
    """Put any other LLM here."""

    @property
    def metadata(self) -> LLMMetadata:
        """What the framework asks of a model."""
        return LLMMetadata()

    def complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponse:
        """Answer the last line that the user said."""
        said = re.split(
            r"^(?:system|assistant): ", prompt.rpartition("user: ")[2], maxsplit=1, flags=re.MULTILINE
        )[0]
        answer = reply(prompt, said.strip().rpartition("\n")[2])
        agent = "Thought:" in prompt  # an agent of the ReAct kind asks for its answer in this form
        return CompletionResponse(text=f"Thought: I can answer.\nAnswer: {answer}" if agent else answer)

    def stream_complete(self, prompt: str, *_: Any, **__: Any) -> Iterator[CompletionResponse]:  # type: ignore[override] # -- any iterator will do
        """Answer in a stream of one piece."""
        answer = self.complete(prompt).text
        yield CompletionResponse(text=answer, delta=answer)


async def ask(memos: MemOS, user: str, question: str) -> str:
    """Ask an agent, in a session of its own."""
    memory = MemosMemory(memos, session_id="friday", user_id=user)
    agent = ReActAgent(llm=OfflineModel(), streaming=False)
    return str(await agent.run(question, memory=memory))


def main() -> int:
    """Talk to a chat engine on Monday, ask an agent on Friday."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the memories (default: a temporary one)")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="memories-"))
    with MemOS.open(folder, embedder=embedder()) as memos:
        monday = MemosMemory(memos, session_id="monday", user_id="alice@example.com")
        engine = SimpleChatEngine.from_defaults(llm=OfflineModel(), memory=monday)
        for text in ("My sister Mia lives in Porto.", "Her cat is called Pixel."):
            print(f"alice to the chat engine: {text}\n    -> {engine.chat(text)}")
        question = "What is the cat of Mia called?"
        for user in ("alice@example.com", "bob@example.com"):
            print(f"{user} to the agent: {question}\n    -> {asyncio.run(ask(memos, user, question))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
