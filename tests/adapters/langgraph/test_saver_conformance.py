"""LangGraph's own conformance suite for checkpointers: every clause, base and extended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.checkpoint.conformance.report import CapabilityReport

from memos_adapters.langgraph.saver import MemosSaver

CLAUSES = 81
"""58 of base capabilities, 23 of extended ones, in langgraph-checkpoint-conformance 0.0.2."""


@checkpointer_test(name="MemosSaver")
async def plain() -> AsyncIterator[MemosSaver]:
    """A saver of its own for every capability."""
    async with MemosSaver.from_conn_string(":memory:") as saver:
        yield saver


@checkpointer_test(name="encrypted MemosSaver")
async def encrypted() -> AsyncIterator[MemosSaver]:
    """The same, with a key."""
    async with MemosSaver.from_conn_string(":memory:", encryption=b"0123456789abcdef") as saver:
        yield saver


def passed(report: CapabilityReport) -> int:
    """How many clauses passed."""
    return sum(result.tests_passed for result in report.results.values())


@pytest.mark.parametrize("made", [plain, encrypted], ids=["plain", "encrypted"])
async def test_every_clause_passes(made: object) -> None:
    """All capabilities are found and run, and no clause fails."""
    report = await validate(made)  # type: ignore[arg-type] # -- what its decorator returns
    assert {name for name, result in report.results.items() if result.detected} == {
        capability.value for capability in ALL_CAPABILITIES
    }
    assert not [failure for result in report.results.values() for failure in result.failures]
    assert report.passed_all()
    assert passed(report) >= CLAUSES
