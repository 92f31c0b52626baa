"""What is remembered of a user, put before the nodes of any retriever; and nodes weighed by their age.

It searches no documents itself: those come from the retriever before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.utils import get_tokenizer
from pydantic import ConfigDict, PrivateAttr

from memos_adapters._identity import Memories
from memos_adapters._recall import BUDGET_TOKENS, TIMEOUT_S, RecallCounts, Recaller
from memos_adapters._text import TEMPLATE, check_template, rendered
from memos_adapters.llamaindex.bound import Handle, Names, bound
from memos_adapters.llamaindex.retriever import EVENT_AT
from memos_engine import BadInput, Context, MemCube, MemOS

NODE_ID = "memos-memories"
"""Id of the node that holds the memories."""


class MemosPostprocessor(Handle, BaseNodePostprocessor):
    """Puts a user's memories about the query before the nodes, drops nodes that say the same, favours recent ones."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    half_life: timedelta | None = None
    date_key: str = EVENT_AT

    _memories: Memories = PrivateAttr()
    _recaller: Recaller = PrivateAttr()
    _template: str = PrivateAttr()

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        half_life: timedelta | None = None,
        date_key: str = EVENT_AT,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        min_score: float | None = None,
        timeout_s: float | None = TIMEOUT_S,
        strict: bool = False,
        template: str = TEMPLATE,
        **names: Unpack[Names],
    ) -> None:
        """Serve one user's memory to a query engine.

        Args:
            memos: What `MemOS.open` or `acting_as` returned, or a cube of it.
            half_life: After which the score of a dated node counts half; the nodes are put in order of it.
                None: scores and order stay as they are.
            date_key: Key of the nodes' metadata that holds when it happened: ISO 8601, or a datetime.
            budget_tokens: Of the recalled memories.
            count_tokens: Tokens of a text. None: by LlamaIndex's tokenizer.
            min_score: As in `MemCube.recall`. None: its default.
            timeout_s: Seconds after which a query goes on without memories. None: it waits.
            strict: Raise what failed in recall instead of going on without.
            template: What stands around the memories; holds `{memories}` once.
            **names: `user_id`, `agent_id`, `session_id`, `cube` and `isolation`, as in `Names`.

        Raises:
            IdentityMissing: neither `memos` nor a name says whose memory.
            BadInput: a setting cannot be taken.
        """
        if half_life is not None and half_life <= timedelta(0):
            raise BadInput(f"half_life is {half_life!r}: it must be above 0, or None to leave scores alone")
        fields: dict[str, Any] = {"half_life": half_life, "date_key": date_key}
        super().__init__(**fields)
        self._memories = bound(memos, **names)
        self._template = check_template(template)
        self._recaller = Recaller(
            budget_tokens=budget_tokens,
            count_tokens=count_tokens or _tokens,
            min_score=min_score,
            timeout_s=timeout_s,
            strict=strict,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex knows it by."""
        return "MemosPostprocessor"

    @property
    def counts(self) -> RecallCounts:
        """What became of the recalls so far."""
        return self._recaller.counts

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        context = Context()
        if query_bundle is not None:
            context = self._recaller.recall(self._memories.cube(), query_bundle.query_str)
        return self._with(context, nodes)

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        context = Context()
        if query_bundle is not None:
            cube = await asyncio.to_thread(self._memories.cube)
            context = await self._recaller.arecall(cube, query_bundle.query_str)
        return self._with(context, nodes)

    def _with(self, context: Context, nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        ids = {hit.item.id for hit in context.hits}
        texts = {_plain(hit.item.text) for hit in context.hits}
        kept = [
            node
            for node in nodes
            if node.node.node_id not in ids and _plain(node.node.get_content(MetadataMode.NONE)) not in texts
        ]
        if self.half_life is not None:
            kept = _by_age(kept, self.half_life, self.date_key, datetime.now(UTC))
        if not context:
            return kept
        node = TextNode(id_=NODE_ID, text=rendered(context.text, self._template))
        return [NodeWithScore(node=node, score=context.score), *kept]


def _by_age(
    nodes: Sequence[NodeWithScore], half_life: timedelta, date_key: str, now: datetime
) -> list[NodeWithScore]:
    """The nodes with the scores of those that have a date halved per `half_life`, best first; without a score last."""
    weighed = []
    for node in nodes:
        at = _date(node.node.metadata.get(date_key))
        score = node.score
        if score is not None and at is not None:
            score *= 0.5 ** (max(now - at, timedelta(0)) / half_life)
        weighed.append(NodeWithScore(node=node.node, score=score))
    return sorted(weighed, key=lambda node: -1.0 if node.score is None else node.score, reverse=True)


def _date(value: object) -> datetime | None:
    """A moment as metadata hold it; None when it is none. Without a zone it is taken for UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _plain(text: str) -> str:
    """What makes two texts say the same, word for word."""
    return " ".join(text.casefold().split())


def _tokens(text: str) -> int:
    return len(get_tokenizer()(text))
