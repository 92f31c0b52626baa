"""What LangGraph's own test modules ask of pytest's configuration."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark of a plugin that they use and we do not: nothing is tried twice here."""
    config.addinivalue_line(
        "markers", "flaky(retries): set by tests of LangGraph that sleep; here no time passes"
    )
