"""A retriever over a user's memory: one document for each memory that is found.

It decides nothing of its own: who is asking is resolved by `_identity`, what is found by the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import Field

from memos_adapters._identity import Isolation, Memories
from memos_adapters.langchain._config import configurable
from memos_engine import BadInput, BadLimit, Hit, MemCube, MemoryItem, MemOS

K_MAX = 10_000
_SAID = "said"
_ASKED = frozenset({"k", "filter", "min_score", "user_id", "agent_id", "session_id", _SAID})
"""What a call may say; `said` is what its config says, handed on by `invoke`."""


class MemosRetriever(BaseRetriever):
    """Finds memories: `MemosRetriever(memos).invoke(question, user_id="alice", k=2)`.

    Whose memory is searched is said by the constructor, by the call, or by the call's config, as in
    `config={"configurable": {"user_id": "alice"}}`; nobody named is an `IdentityMissing`. A retriever that
    wraps this one often passes no config on: say `user_id` as a keyword there.

    Args:
        memos: What `MemOS.open` returned, or a `MemCube` of it.
        **fields: The fields below.

    Raises:
        BadInput: a field cannot be taken.
    """

    memos: Any = Field(exclude=True, repr=False)
    user_id: str | None = None
    """Whose memory, for good. None: each call says it."""
    agent_id: str | None = None
    session_id: str | None = None
    default_user: str | None = None
    """Who is meant when a call names nobody."""
    cube: str = "memories"
    """Name of the cube of each user."""
    isolation: Isolation = "user"
    """What has a cube of its own."""
    k: int = 4
    """At most so many documents."""
    filter: dict[str, Any] | None = None
    """What to look among, as in `MemCube.search`: kinds, thread, speaker, since, until."""
    min_score: float | None = None
    """0..1. Leave out what scores less. None: nothing is left out of a search; a recall has its default."""
    mode: Literal["search", "recall"] = "search"
    """`search`: the best memories there are. `recall`: those that a prompt would get, of `budget_tokens` at
    most and none where the memory does not hold what is asked."""
    budget_tokens: int = 2_000
    """Of a `recall`, as in `MemCube.recall`."""

    def __init__(self, memos: MemOS | MemCube, **fields: Any) -> None:
        super().__init__(memos=memos, **fields)  # type: ignore[call-arg] # -- it takes our fields
        self._memories()
        _checked_k(self.k)

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """The memories about `input`, best first; a blank one finds none.

        Args:
            input: Words or a question.
            config: Its configurable may name `user_id`, `agent_id` and `session_id`.
            **kwargs: For this call: `k`, `filter` (beside the field's), `min_score`, `user_id`, `agent_id`,
                `session_id`.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not read, or is not whom this retriever is bound to.
            BadInput: the query or a setting cannot be taken.
        """
        return super().invoke(input, config, **kwargs, **{_SAID: configurable(config)})

    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `invoke`; the search runs in a thread."""
        return await super().ainvoke(input, config, **kwargs, **{_SAID: configurable(config)})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **asked: Any
    ) -> list[Document]:
        return self._found(query, asked)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **asked: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self._found, query, asked)

    def _found(self, query: str, asked: Mapping[str, Any]) -> list[Document]:
        unknown = sorted(set(asked) - _ASKED)
        if unknown:
            raise BadInput(
                f"unknown argument {unknown[0]!r}: a call takes {', '.join(sorted(_ASKED - {_SAID}))}"
            )
        limit = _checked_k(self.k if asked.get("k") is None else asked["k"])
        cube = self._memories().cube(asked, asked.get(_SAID))
        if not query.strip():
            return []
        wanted = {**(self.filter or {}), **(asked.get("filter") or {})}
        least = self.min_score if asked.get("min_score") is None else asked["min_score"]
        if self.mode == "search":
            hits = cube.search(query, limit=limit, **wanted)
            return [_document(hit) for hit in hits if least is None or hit.score >= least]
        if least is not None:
            wanted["min_score"] = least
        context = cube.recall(query, budget_tokens=self.budget_tokens, **wanted)
        return [_document(hit) for hit in context.hits[:limit]]

    def _memories(self) -> Memories:
        """Made anew for each call, so that a copy or a changed field never acts as the one before."""
        return Memories(
            self.memos,
            user_id=self.user_id,
            agent_id=self.agent_id,
            session_id=self.session_id,
            default_user=self.default_user,
            cube=self.cube,
            isolation=self.isolation,
        )


def _checked_k(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= K_MAX:
        raise BadLimit(f"k is {k!r}: hand over how many documents to return, 1 to {K_MAX:,}")
    return k


def _document(hit: Hit) -> Document:
    """A hit as a document; its metadata is JSON."""
    item = hit.item
    metadata = {
        "score": hit.score,
        "kind": item.kind,
        "role": item.role,
        "speaker": item.speaker,
        "thread": item.thread or None,
        "session": item.session,
        "event_at": _iso(item.event_at),
        "created_at": _iso(item.created_at),
        "message_id": _message_id(item),
        "tags": list(item.tags),
        "why": [str(reason) for reason in hit.why],
    }
    return Document(page_content=item.text, id=item.id, metadata=cast("dict[str, Any]", metadata))


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _message_id(item: MemoryItem) -> str | None:
    """The framework's id of the turn that the memory is, or was drawn from first."""
    return next((source.message_id for source in item.sources if source.message_id), None)
