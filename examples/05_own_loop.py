"""Memory around an agent loop written by hand: two lines more.

    python 05_own_loop.py [FOLDER]

The loop speaks the plain dicts of every chat API; one function, two users, several sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from offline import embedder, reply

from memos_adapters.hooks import AsyncMemoryHooks, MemoryHooks
from memos_engine import MemOS


def call_model(messages: list[dict[str, Any]]) -> str:
    """Put a call of your model's API here."""
    prompt = "\n".join(message["content"] for message in messages)
    return reply(prompt, messages[-1]["content"].rpartition("\n")[2])


def main() -> int:
    """The same loop as a decorated function, as a turn by hand, and async."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="keeps the memories (default: a temporary one)")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="memories-"))
    # each call below hands over what is new; the default is the whole conversation
    with (
        MemOS.open(folder, embedder=embedder()) as memos,
        MemoryHooks(memos, whole_thread=False) as hooks,
    ):

        @hooks.remembers
        def agent(messages: list[dict[str, Any]], user_id: str, session_id: str) -> str:
            return call_model(messages)

        def say(user: str, session: str, text: str) -> None:
            answer = agent([{"role": "user", "content": text}], user_id=user, session_id=session)
            print(f"{user} in {session}: {text}\n    -> {answer}")

        say("alice", "monday", "I keep bees on the roof.")
        say("alice", "friday", "Where do I keep the bees?")
        say("bob", "friday", "Where do I keep the bees?")

        with hooks.turn(
            [{"role": "user", "content": "Who keeps bees?"}], user_id="alice", session_id="x"
        ) as turn:
            turn.answer(call_model(turn.messages))
        print(f"A turn by hand recalled {len(turn.context.hits)} memories.")
        print("Async:", asyncio.run(ask_async(memos, "Where do I keep the bees?")))
    return 0


async def ask_async(memos: MemOS, question: str) -> str:
    """The async twin: the same names, awaited; the event loop is never blocked."""
    hooks = AsyncMemoryHooks(memos, user_id="alice", whole_thread=False)
    async with hooks.turn([{"role": "user", "content": question}], session_id="saturday") as turn:
        answer = call_model(turn.messages)
        turn.answer(answer)
    return answer


if __name__ == "__main__":
    sys.exit(main())
