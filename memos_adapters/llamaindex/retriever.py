"""Memories as nodes, for query engines and whatever else takes a retriever of LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from memos_adapters.llamaindex.bound import Names, bound
from memos_engine import BadLimit, Hit, MemCube, MemOS

SIMILARITY_TOP_K = 5
EVENT_AT = "event_at"
"""Key of a node's metadata: when it happened, as ISO 8601."""


class MemosRetriever(BaseRetriever):
    """Finds one user's memories about a query, best first."""

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        similarity_top_k: int = SIMILARITY_TOP_K,
        min_score: float = 0.0,
        kinds: Sequence[str] = (),
        thread: str | None = None,
        speaker: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **names: Unpack[Names],
    ) -> None:
        """Search the memories of one user, for good.

        Args:
            memos: What `MemOS.open` or `acting_as` returned, or a cube of it.
            similarity_top_k: At most so many nodes.
            min_score: Nodes below are left out; see `Hit.score`.
            kinds: As in `MemCube.search`, like the following.
            thread: Of one conversation.
            speaker: Said by one speaker.
            since: Inclusive.
            until: Exclusive.
            callback_manager: As in LlamaIndex.
            verbose: As in LlamaIndex.
            **names: `user_id`, `agent_id`, `session_id`, `cube` and `isolation`, as in `Names`.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose memories.
            BadInput: `memos` is neither, or names are given beside a cube.
            BadLimit: `similarity_top_k` is less than 1.
        """
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        if similarity_top_k < 1:
            raise BadLimit(f"similarity_top_k is {similarity_top_k!r}: it must be at least 1")
        self._memories = bound(memos, **names)
        self._top_k = similarity_top_k
        self._min_score = min_score
        filters = {"thread": thread, "speaker": speaker, "since": since, "until": until}
        self._wanted: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
        self._wanted["kinds"] = tuple(kinds)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosRetriever"

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not query_bundle.query_str.strip():
            return []
        hits = self._memories.cube().search(query_bundle.query_str, limit=self._top_k, **self._wanted)
        return [node_of(hit) for hit in hits if hit.score >= self._min_score]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def node_of(hit: Hit) -> NodeWithScore:
    """A memory as a node under the memory's id; what is known about it is metadata that no prompt shows."""
    item = hit.item
    metadata: dict[str, Any] = {
        "kind": item.kind,
        "speaker": item.speaker,
        "thread": item.thread,
        EVENT_AT: item.event_at and item.event_at.isoformat(),
        "tags": list(item.tags),
        "message_ids": [source.message_id for source in item.sources if source.message_id],
    }
    metadata = {name: value for name, value in metadata.items() if value}
    hidden = list(metadata)
    node = TextNode(
        id_=item.id,
        text=item.text,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
    )
    return NodeWithScore(node=node, score=hit.score)
