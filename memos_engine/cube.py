"""MemCube: one container of memories, as one principal may use it.

Every public method checks the right it needs, validates what it was handed, and leaves the work to
the shelf. A handle holds no state but who is asking: two handles on one cube share everything else.
"""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, overload

from memos_engine.capture.validate import (
    check_choice,
    check_finite,
    check_limit,
    check_messages,
    check_name,
    check_several,
    check_share,
    check_source,
    check_tags,
    check_text,
    check_time,
    check_ttl,
)
from memos_engine.errors import BadInput, BadName, BadText
from memos_engine.fields import KINDS, TIERS, VISIBILITIES, checked_fields, checked_filter
from memos_engine.ids import new_id
from memos_engine.intake import capture
from memos_engine.items import (
    CaptureResult,
    Context,
    Erased,
    Hit,
    ItemVersion,
    Kind,
    MemoryItem,
    Message,
    Source,
    Tier,
    TreeNode,
    Visibility,
)
from memos_engine.kv.entries import KeyValues
from memos_engine.recall.abstain import SILENT_BELOW
from memos_engine.recall.tokens import tokens_at_most
from memos_engine.retrieval import Asked, recall, search
from memos_engine.talking import BUDGET_MAX, BUDGET_TOKENS, TalkingCube
from memos_engine.upkeep import cube_tree

if TYPE_CHECKING:
    from typing import Unpack

    from memos_engine.fields import ItemFields, NewItem, Wanted
    from memos_engine.ports import CountTokens

SEARCH_LIMIT = 10
SEARCH_MAX = 10_000
TREE_LIMIT = 20


class MemCube(TalkingCube):
    """One cube under one scope. Get it from `MemOS.cube`."""

    # Write

    def capture(
        self,
        messages: Sequence[Message],
        *,
        thread: str = "",
        idempotency_key: str | None = None,
        whole_thread: bool = False,
    ) -> CaptureResult:
        """Make what was said memory: every message verbatim, and what a reader draws from it.

        Durable when it returns, all or nothing, found by the next recall. A message with an id is
        captured once per thread, however often it is handed over.

        Args:
            messages: In the order they were said.
            thread: The caller's name of the conversation.
            idempotency_key: A retry with the same key and messages changes nothing and returns the same.
            whole_thread: The messages are all of the thread, so that those without an id are
                recognised by role, text, time and place among equals.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: a message cannot be taken.
            MessageConflict: an id was captured before with other content.
            IdempotencyConflict: the key was used for other messages.
            StoreError: nothing was stored.
        """
        actor = self._actor("write")
        if thread:
            check_name(thread, "thread")
        if idempotency_key is not None:
            check_name(idempotency_key, "idempotency_key")
        return capture(
            self._shelf,
            check_messages(messages),
            actor,
            thread=thread,
            idempotency_key=idempotency_key,
            whole_thread=whole_thread,
        )

    @overload
    def add(self, text: str, **fields: Unpack[NewItem]) -> MemoryItem: ...

    @overload
    def add(self, text: list[str] | tuple[str, ...], **fields: Unpack[NewItem]) -> list[MemoryItem]: ...

    def add(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        kind: Kind = "note",
        tier: Tier = "long_term",
        event_at: datetime | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        ttl: timedelta | None = None,
        confidence: float = 1.0,
        priority: float = 0.0,
        tags: Sequence[str] = (),
        source: Source | None = None,
        visibility: Visibility = "cube",
    ) -> MemoryItem | list[MemoryItem]:
        """Write one item, or one for each text of a sequence, as they are; durable when it returns.

        Args:
            text: What to remember. A list returns a list, in order.
            kind: Any kind but `concept` and `topic`, which the engine makes.
            tier: Where it belongs.
            event_at: When it happened, aware.
            valid_from: From when it holds, inclusive.
            valid_to: Until when it holds, exclusive.
            ttl: After which it is no longer recalled.
            confidence: 0..1.
            priority: Any finite number; higher matters more.
            tags: Free labels.
            source: Where it comes from.
            visibility: Who of those with a right on the cube may see it.

        Raises:
            AccessDenied: this scope may not write here.
            BadInput: something cannot be taken.
            StoreError: nothing was stored.
        """
        actor = self._actor("write")
        single = isinstance(text, str)
        texts = [text] if single else check_several(text, "text", BadText)
        check_limit(len(texts), "the number of texts", least=0)
        now = self._host.clock()
        made = MemoryItem(
            "", self.id, check_choice(kind, KINDS, "kind"), "", check_choice(tier, TIERS, "tier"),
            session=self._scope.session if self._scope else None, author=self._principal,
            event_at=check_time(event_at, "event_at"), valid_from=check_time(valid_from, "valid_from"),
            valid_to=check_time(valid_to, "valid_to"), expires_at=check_ttl(ttl, now), created_at=now, updated_at=now,
            confidence=check_share(confidence, "confidence"), priority=check_finite(priority, "priority"),
            tags=check_tags(tags), sources=tuple(filter(None, [check_source(source)])),
            visibility=check_choice(visibility, VISIBILITIES, "visibility"),
        )  # fmt: skip
        items = [
            dataclasses.replace(made, id=new_id(), text=check_text(t, "text" if single else f"text[{n}]"))
            for n, t in enumerate(texts)
        ]
        self._shelf.add(items, actor)
        return items[0] if single else items

    def update(
        self, item_id: str, *, expect_version: int | None = None, **fields: Unpack[ItemFields]
    ) -> MemoryItem:
        """Make a new version of an item with other fields; the old version stays in its history.

        Args:
            item_id: Which item.
            expect_version: Refuse when the stored version is another. None: the version read in this call.
            **fields: Fields of the item to change: text, kind, tier, tags, confidence, priority, event_at,
                valid_from, valid_to, ttl (from now; None for ever), visibility, state.

        Raises:
            AccessDenied: this scope may not write here.
            ItemNotFound: it is not in this cube, or not yours to see.
            VersionConflict: it was changed meanwhile.
            BadInput: a field cannot be taken.
        """
        actor = self._actor("write")
        changes = checked_fields(fields, self._host.clock())
        return self._shelf.update(
            check_name(item_id, "item_id"),
            lambda item: dataclasses.replace(item, **changes),
            actor,
            expect_version,
        )

    def forget(self, item_id: str | Sequence[str], *, sources: bool = False) -> Erased:
        """Erase items everywhere, with their versions and what is derived only from them; a tombstone stays.

        A forgotten turn is not captured again when its thread is handed over once more.

        Args:
            item_id: Which item, or several: all or none.
            sources: Erase the episodes they were derived from too.

        Raises:
            AccessDenied: this scope may not write here.
            ItemNotFound: one is not in this cube, or not yours to see; nothing was erased.
        """
        actor = self._actor("write")
        ids = [item_id] if isinstance(item_id, str) else check_several(item_id, "item_id", BadName)
        return self._shelf.forget([check_name(i, "item_id") for i in ids], actor, sources=sources)

    # Read

    def recall(
        self,
        query: str,
        *,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: CountTokens | None = None,
        min_score: float = SILENT_BELOW,
        **wanted: Unpack[Wanted],
    ) -> Context:
        """What is needed for `query`, rendered for a prompt within a token budget; empty when there is nothing.

        Args:
            query: A question or the turn to be answered.
            budget_tokens: The context's text never costs more, by `count_tokens`.
            count_tokens: Tokens of a text for the model that will read it. None: an upper bound for any
                byte-level tokenizer (see `recall/tokens.py`), about four times what English costs.
            min_score: Stay silent when the cube holds what is asked with less than this probability, 0..1,
                as far as that can be told (see `Context.score`). 0: whatever was found is shown.
            **wanted: What to look among, as in `search`.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: the query, the budget or a filter cannot be taken.
            ModelUnavailable: the reranker or the rewriter that was handed over cannot be reached.
            ModelRefused: it refuses the request.
            ModelFailed: it answers something else than scores or queries.
        """
        (context,) = self.recall_many(
            [query], budget_tokens=budget_tokens, count_tokens=count_tokens, min_score=min_score, **wanted
        )
        return context

    def recall_many(
        self,
        queries: Sequence[str],
        *,
        budget_tokens: int = BUDGET_TOKENS,
        count_tokens: CountTokens | None = None,
        min_score: float = SILENT_BELOW,
        **wanted: Unpack[Wanted],
    ) -> builtins.list[Context]:
        """A context for each query, as `recall` makes it: all embedded in one batch, from one state of the cube.

        Args:
            queries: Questions, in any number.
            budget_tokens: Of each context.
            count_tokens: As in `recall`.
            min_score: As in `recall`.
            **wanted: As in `search`.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: a query, the budget or a filter cannot be taken; nothing was answered.
            ModelUnavailable, ModelRefused, ModelFailed: as in `recall`.
        """
        actor = self._actor("read")
        if count_tokens is not None and not callable(count_tokens):
            raise BadInput(
                f"count_tokens is {count_tokens!r}: hand over a function from a text to its tokens"
            )
        asked = Asked(
            check_limit(budget_tokens, "budget_tokens", most=BUDGET_MAX),
            count_tokens or tokens_at_most,
            check_share(min_score, "min_score"),
        )
        texts = [check_text(query, "query") for query in check_several(queries, "queries", BadText)]
        return recall(self._shelf, texts, actor, asked, wanted=checked_filter(wanted))

    def search(self, query: str, *, limit: int = SEARCH_LIMIT, **wanted: Unpack[Wanted]) -> list[Hit]:
        """The best items for `query`, best first, each with its reasons; empty when nothing matches.

        Args:
            query: Words or a question.
            limit: At most so many hits.
            **wanted: kinds, thread, speaker, since (inclusive) and until (exclusive) on `event_at`.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: the query, the limit or a filter cannot be taken.
            ModelUnavailable, ModelRefused, ModelFailed: the reranker's, as in `recall`.
        """
        actor = self._actor("read")
        check_limit(limit, "limit", most=SEARCH_MAX)
        return search(
            self._shelf, check_text(query, "query"), actor, limit=limit, wanted=checked_filter(wanted)
        )

    def get(self, item_id: str) -> MemoryItem:
        """One item, of any state.

        Raises:
            AccessDenied: this scope may not read here.
            ItemNotFound: it is not in this cube, or not yours to see.
        """
        actor = self._actor("read")
        return self._shelf.get(check_name(item_id, "item_id"), actor.view)

    def history(self, item_id: str) -> list[ItemVersion]:
        """Every version of an item, oldest first; the last is the current one.

        Raises:
            AccessDenied: this scope may not read here.
            ItemNotFound: it is not in this cube, or not yours to see.
        """
        actor = self._actor("read")
        return self._shelf.history(check_name(item_id, "item_id"), actor.view)

    def list(self, *, limit: int = 100, offset: int = 0, **wanted: Unpack[Wanted]) -> list[MemoryItem]:
        """Items, newest first.

        Raises:
            AccessDenied: this scope may not read here.
            BadInput: a limit or a filter cannot be taken.
        """
        actor = self._actor("read")
        check_limit(limit, "limit")
        check_limit(offset, "offset", least=0, most=BUDGET_MAX)
        return self._shelf.select(checked_filter(wanted, kinds=KINDS), actor.view, limit=limit, offset=offset)

    @property
    def kv(self) -> KeyValues:
        """The key-value entries of this cube: JSON objects under a namespace and a key."""
        return KeyValues(self.id, lambda: self._shelf, self._actor, self._host.clock)

    def tree(self, *, depth: int | None = None, limit: int = TREE_LIMIT) -> tuple[TreeNode, ...]:
        """What the cube is about, as the job `organise` found it: topics, concepts (people, things), what was said.

        Args:
            depth: Levels to show; None for all.
            limit: At most so many topics, and children of a node; those with most below them come first.

        Raises:
            AccessDenied: this scope may not read here.
            BadLimit: the depth or the limit cannot be taken.
        """
        actor = self._actor("read")
        check_limit(limit, "limit")
        depth = None if depth is None else check_limit(depth, "depth")
        return cube_tree(self._shelf, actor.view, depth=depth, limit=limit)
