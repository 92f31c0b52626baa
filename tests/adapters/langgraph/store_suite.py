"""The tests of LangGraph's SQLite store, with a MemosStore wherever they open one of their own.

Their modules are loaded as they are; a clock that stands still takes the place of theirs, so that what
they sleep passes at once. What does not apply is passed over, each case with its reason.
"""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.store import sqlite
from langgraph.store.base import IndexConfig, TTLConfig
from langgraph.store.sqlite import aio

from memos_adapters.langgraph.store import MemosStore
from memos_engine import MemOS
from memos_engine.testing.fakes import FrozenClock
from tests.suites import LANGGRAPH_SQLITE

CLOCK = FrozenClock()
DOT = "a label may hold a dot: namespaces are kept label by label, and users are called by mail addresses"
INSIDE = "looks into the SQL of LangGraph's SQLite store"
PASSED_OVER = {
    "test_nonnull_migrations": INSIDE,
    "test_escape_glob_literal": INSIDE,
    "test_namespace_match_pattern": INSIDE,
    "test_list_namespaces_prefix_uses_indexable_condition": INSIDE,
    "test_vector_store_initialization": "opens a cursor on the store's connection",
    "test_no_running_loop": "expects sync calls within a running loop to fail: ours work",
    "test_invalid_namespace_only_fails_its_own_call": DOT,
    "test_sync_methods_reject_invalid_namespace_labels": DOT,
    "test_ttl_override_default": "expects reads to refresh only where that is configured: LangGraph's "
    "documentation has them refresh unless that is switched off",
}
ASYNC_TOO = ("test_vector_store_initialization",)
"""Passed over in the sync module alone."""


class Opened(MemosStore):
    """What a sync test opens: a folder beside the file that it names, on the suite's clock."""

    @classmethod
    @contextmanager
    def from_conn_string(  # type: ignore[override] # -- what the tests know of it
        cls, conn_string: str, *, index: IndexConfig | None = None, ttl: TTLConfig | None = None
    ) -> Iterator[MemosStore]:
        """Open, on the suite's clock."""
        path = conn_string if conn_string == ":memory:" else f"{conn_string}.memories"
        connection = MemosStore.from_conn_string(path, index=index, ttl=ttl)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemOS, "open", _on_the_clock(MemOS.open))
            store = connection.__enter__()
        try:
            yield store
        finally:
            connection.__exit__(None, None, None)
            shutil.rmtree(path, ignore_errors=True)


class Awaited(MemosStore):
    """What an async test opens: LangGraph's async store has these as coroutines."""

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, conn_string: str, **options: Any) -> AsyncIterator[MemosStore]:  # type: ignore[override] # -- as above
        """Open, on the suite's clock."""
        with Opened.from_conn_string(conn_string, **options) as store:
            twin = copy.copy(store)
            twin.__class__ = cls
            yield twin

    async def setup(self) -> None:  # type: ignore[override] # -- as above
        """As the sync one."""
        await asyncio.to_thread(MemosStore.setup, self)

    async def sweep_ttl(self) -> int:  # type: ignore[override] # -- as above
        """As the sync one."""
        return await asyncio.to_thread(MemosStore.sweep_ttl, self)

    async def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Any:  # type: ignore[override] # -- as above
        """As the sync one."""
        return super().start_ttl_sweeper(sweep_interval_minutes)

    async def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:  # type: ignore[override] # noqa: ASYNC109 -- as above
        """As the sync one."""
        return super().stop_ttl_sweeper(timeout)


class _Passing:
    """A module whose `sleep` advances the suite's clock."""

    def __init__(self, module: ModuleType, sleep: Any) -> None:
        self._module = module
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


async def _asleep(seconds: float) -> None:
    CLOCK.advance(timedelta(seconds=seconds))
    await asyncio.sleep(0)


def _on_the_clock(opened: Any) -> Any:
    return lambda path, **options: opened(path, clock=CLOCK, background=False, **options)


def suite(module: str) -> dict[str, Any]:
    """The tests and fixtures of a module of the suite, for a test module of ours to have as its own."""
    path = LANGGRAPH_SQLITE.folder / f"{module}.py"
    if not LANGGRAPH_SQLITE.is_there:
        pytest.skip(f"{path} is not there: run python -m tests.suites", allow_module_level=True)
    installed = metadata.version(LANGGRAPH_SQLITE.package)
    if installed != LANGGRAPH_SQLITE.version:
        pytest.skip(f"tests of {LANGGRAPH_SQLITE.version}, installed is {installed}", allow_module_level=True)
    loaded = _loaded(module, path)
    asleep = {"time": _Passing(time, lambda seconds: CLOCK.advance(timedelta(seconds=seconds)))}
    vars(loaded).update(asleep, asyncio=_Passing(asyncio, _asleep))
    wanted = ("test_", "Test")
    found = {
        name: each for name, each in vars(loaded).items() if name.startswith(wanted) or _is_fixture(each)
    }
    return {**found, "passed_over": passed_over}


def _loaded(module: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"langgraph_sqlite_suite.{module}", path)
    assert spec is not None, "a path of a Python file"
    assert spec.loader is not None, "a path of a Python file"
    loaded = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "SqliteStore", Opened)
        patch.setattr(sqlite, "AsyncSqliteStore", Awaited)
        patch.setattr(aio, "AsyncSqliteStore", Awaited)
        if module == "test_async_store":  # it borrows embeddings from its neighbour
            neighbour = _loaded("test_store", path.with_name("test_store.py"))
            patch.setitem(sys.modules, "tests.test_store", neighbour)
        spec.loader.exec_module(loaded)
    return loaded


def _is_fixture(each: object) -> bool:
    return type(each).__name__ == "FixtureFunctionDefinition"


@pytest.fixture(autouse=True)
def passed_over(request: pytest.FixtureRequest) -> None:
    """Skip what does not apply, and say why."""
    name = request.node.originalname
    if name in PASSED_OVER and not (name in ASYNC_TOO and "async" in request.node.path.name):
        pytest.skip(PASSED_OVER[name])
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if params.get("namespace") == ("foo.bar",):
        pytest.skip(DOT)
