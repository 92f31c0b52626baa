"""LangGraph's own tests of its SQLite store, `test_async_store.py`, run against MemosStore (see store_suite.py)."""

from __future__ import annotations

from tests.adapters.langgraph.store_suite import suite

globals().update(suite("test_async_store"))
