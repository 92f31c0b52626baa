"""A model of your own machine that reads a user's memory and adds to it: a chat model of LangChain.

    pip install 'memos-adapters[langchain,local]'
    python 06_local_model.py [FOLDER] [--model HuggingFaceTB/SmolLM2-135M-Instruct]

A model that is named is run here, and each turn tells how much of its prompt the model had read before. Without
a name a stand-in answers.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from offline import embedder, words

from memos_adapters.langchain import MemosChatModel
from memos_engine import ChatMessage, MemOS


class OfflineModel:
    """Any object with this method is a model: it answers with the remembered line that fits best."""

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Answer the last message."""
        memories, _, question = messages[-1].content.rpartition("</memories>\n\n")
        if not question.endswith("?"):
            return "I will remember that."
        lines = re.findall(r"^user: .+$", memories, re.MULTILINE)
        best = max(lines, key=lambda line: len(words(line) & words(question)), default="")
        return f"I remember: {best}" if words(best) & words(question) else "You have not told me."


def talk(model: MemosChatModel, user: str, thread: str, *texts: str) -> None:
    """One conversation of a user, streamed; the model is handed all of it in each turn."""
    config: RunnableConfig = {"configurable": {"user_id": user, "thread_id": thread}}
    said: list[BaseMessage] = []
    for text in texts:
        print(f"{user} on {thread}: {text}\n    -> ", end="")
        said.append(HumanMessage(text))
        answer = None
        for chunk in model.stream(said, config):
            print(chunk.text, end="", flush=True)
            answer = chunk if answer is None else answer + chunk
        assert answer is not None, "a stream has an end"
        said.append(answer)
        print(f"\n       {told(answer)}")


def told(answer: BaseMessage) -> str:
    """What an answer tells of the prompt that it was given."""
    found = f"{len(answer.response_metadata['memos']['memories'])} memories in the prompt"
    usage = getattr(answer, "usage_metadata", None)
    if usage is None:
        return found
    known = usage["input_token_details"]["cache_read"]
    return f"{found} of {usage['input_tokens']} tokens, {known} of them read before"


def main() -> int:
    """Tell on Monday, ask on Friday, as two users."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the memories (default: a temporary one)")
    parser.add_argument("--model", help="folder or name of a chat model on the Hugging Face hub")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="memories-"))
    with MemOS.open(folder, embedder=embedder()) as memos:
        model = MemosChatModel(memos, model=arguments.model or OfflineModel(), max_tokens=40)
        talk(model, "alice", "monday", "My sister Mia lives in Porto.", "Her cat is called Pixel.")
        talk(model, "alice", "friday", "What is the cat of Mia called?", "Where does my sister Mia live?")
        talk(model, "bob", "friday", "What is the cat of Mia called?")
    return 0


if __name__ == "__main__":
    sys.exit(main())
