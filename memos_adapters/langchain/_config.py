"""What a running chain says of a call: the `configurable` of its config. Needs langchain-core alone.

It is read before any hop to a thread of our own: LangChain keeps it in a context variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig, ensure_config


def configurable(config: RunnableConfig | None = None) -> Mapping[str, Any]:
    """The configurable part of a config, or of the chain's that runs; empty outside of any."""
    return ensure_config(config).get("configurable") or {}
