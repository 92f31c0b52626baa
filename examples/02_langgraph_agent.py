"""A LangGraph agent that remembers its users across threads and restarts.

    pip install 'memos-adapters[langchain,langgraph]'
    python 02_langgraph_agent.py [FOLDER]

One folder holds the memories (MemosMiddleware), the checkpoints (MemosSaver) and a key-value store
(MemosStore). The second half runs in a process of its own: whatever it knows, it has read from the folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from offline import embedder, reply

from memos_adapters.langchain import MemosMiddleware
from memos_adapters.langgraph import MemosSaver, MemosStore
from memos_engine import MemOS

ALICE, BOB = "alice@example.com", "bob@example.com"


@dataclass
class User:
    """What a run is told about who is asking."""

    user_id: str


class OfflineModel(BaseChatModel):
    """Put ChatOpenAI, ChatAnthropic or any other chat model here."""

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        asked = next(str(message.text) for message in reversed(messages) if isinstance(message, HumanMessage))
        prompt = "\n".join(str(message.text) for message in messages)
        answer = AIMessage(reply(prompt, asked.rpartition("\n")[2]))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    @property
    def _llm_type(self) -> str:
        return "offline"


def main() -> int:
    """Tell here; ask in a new process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps everything (default: a temporary one)")
    parser.add_argument("--ask", action="store_true", help="only the second half")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="memories-"))
    with MemOS.open(folder, embedder=embedder()) as memos:
        store = MemosStore(memos)
        agent = create_agent(  # type: ignore[misc] # -- LangChain's own middleware is typed no closer
            OfflineModel(),
            middleware=[MemosMiddleware(memos)],  # recall before the model, capture after the agent
            checkpointer=MemosSaver(memos),  # threads of all users: whose thread it is, your login must check
            store=store,
            context_schema=User,
        )

        def say(user: str, thread: str, text: str) -> None:
            config = {"configurable": {"thread_id": thread}}
            said = {"messages": [HumanMessage(text)]}
            answer = agent.invoke(said, config, context=User(user))  # type: ignore[call-overload] # -- as its docs do
            print(f"{user} in {thread}: {text}\n    -> {answer['messages'][-1].text}", flush=True)

        if options.ask:
            print("\nA new process:", flush=True)
            say(ALICE, "friday", "Am I allergic to peanuts or to milk?")
            say(BOB, "saturday", "Am I allergic to peanuts or to milk?")
            say(ALICE, "monday", "Where did I move?")
            turns = agent.get_state({"configurable": {"thread_id": "monday"}}).values["messages"]
            print(f"The thread monday has {len(turns)} messages; the store says", end=" ")
            settings = store.get(("users", ALICE), "settings")
            print(settings.value if settings else "nothing")
            return 0
        say(ALICE, "monday", "I'm allergic to peanuts.")
        say(ALICE, "monday", "I moved to Lisbon in May.")
        say(BOB, "tuesday", "I like tea.")
        store.put(("users", ALICE), "settings", {"language": "pt"})
    return subprocess.run([sys.executable, __file__, str(folder), "--ask"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
