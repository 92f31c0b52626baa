"""LangGraph's InMemoryStore, opened as in the store benchmark."""

from __future__ import annotations

from benchmarks.adapters.durability import IN_MEMORY
from benchmarks.adapters.stores.base import LangGraphStore
from benchmarks.systems import langgraph_memory


class Memory(LangGraphStore, langgraph_memory.Memory):
    """Its own opening, the calls of all."""

    durability = IN_MEMORY


SYSTEM = Memory
