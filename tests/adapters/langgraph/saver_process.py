"""A process that runs a graph until it is killed: `python -m tests.adapters.langgraph.saver_process FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from langgraph.graph import START, StateGraph

from memos_adapters.langgraph.saver import MemosSaver
from tests.adapters.langgraph.saver_cases import Count, config

STEPS = 1_000_000
"""More than it gets to."""


def stepping(ran: Path, pause_s: float = 0.0, steps: int = STEPS) -> StateGraph[Any]:
    """A graph that counts, and says in a file which steps it ran; two nodes run beside each other."""

    def one(state: Count) -> dict[str, Any]:
        with ran.open("a") as said:
            said.write(f"{state['n']}\n")
        time.sleep(pause_s)
        return {"n": state["n"] + 1, "seen": [state["n"]]}

    def beside(state: Count) -> dict[str, Any]:
        return {"seen": [-1]}

    builder: StateGraph[Any] = StateGraph(Count)
    builder.add_node(one)
    builder.add_node(beside)
    builder.add_edge(START, "one")
    builder.add_conditional_edges("one", lambda state: [] if state["n"] >= steps else ["one", "beside"])
    return builder


def main(folder: Path) -> None:
    """Run until the end, which is far."""
    with MemosSaver.from_conn_string(folder / "memories") as saver:
        graph = stepping(folder / "ran").compile(checkpointer=saver)
        print("ready", flush=True)
        graph.invoke({"n": 0, "seen": []}, config() | {"recursion_limit": STEPS}, durability="sync")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
