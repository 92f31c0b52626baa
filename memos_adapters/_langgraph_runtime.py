"""Who a node, a tool or a middleware of LangGraph runs for. Shared by what runs inside of a graph.

Read before any hop to a thread: what LangGraph knows of a run lives in context variables.
"""

from __future__ import annotations

from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_config
from langgraph.runtime import get_runtime

from memos_adapters._identity import Memories
from memos_engine import MemCube


def cube_for(memories: Memories, runtime: Any) -> MemCube:
    """The memory of the user that a run is for: by its context, its configurable, or the server's login.

    Raises:
        IdentityMissing: none of them names anybody.
        AccessDenied: they name different users.
    """
    context, configurable = said_by(runtime)
    return memories.cube(context, configurable, authenticated=_logged_in(runtime))


def thread_of(memories: Memories, runtime: Any) -> str:
    """The conversation that a run belongs to; empty when it has no name."""
    info = getattr(runtime, "execution_info", None)
    known = {"thread_id": getattr(info, "thread_id", None)}
    context, configurable = said_by(runtime)
    return memories.thread(context, configurable, known)


def running() -> tuple[object, str | None]:
    """The context of the run that this call is a part of, and as whom its server let the caller in; else nothing."""
    held = var_child_runnable_config.get()
    if not held or not held.get("configurable"):
        return None, None
    runtime = get_runtime()
    return getattr(runtime, "context", None), _logged_in(runtime)


def said_by(runtime: Any) -> tuple[object, dict[str, Any]]:
    """What a run says of itself: its context, and the configurable part of its config."""
    return getattr(runtime, "context", None), _configurable(runtime)


def _configurable(runtime: Any) -> dict[str, Any]:
    config = getattr(runtime, "config", None)  # a tool's runtime holds it
    if config is None:
        config = get_config() if var_child_runnable_config.get() is not None else {}
    return dict(config.get("configurable") or {})


def _logged_in(runtime: Any) -> str | None:
    """As whom the server let the caller in. None: there is no server, or it lets everybody in, as "" says."""
    user = getattr(getattr(runtime, "server_info", None), "user", None)
    return getattr(user, "identity", None) or None
