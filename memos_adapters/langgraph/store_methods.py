"""The methods that users of a LangGraph store call, each one operation handed to `batch` or `abatch`.

`BaseStore` has them too, but refuses a namespace with a dot in it, and with it every mail address; here
`batch` decides what a label may be. Otherwise they are alike, defaults included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langgraph.store.base import (
    NOT_PROVIDED,
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    NamespacePath,
    NotProvided,
    PutOp,
    SearchItem,
    SearchOp,
)
from typing_extensions import override

from memos_adapters.langgraph.store_ops import check_labels, check_place


class StoreMethods(BaseStore):
    """`BaseStore`, its labels free."""

    @override
    def get(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """The item under (namespace, key), or None.

        Args:
            namespace: Its labels, from the widest to the narrowest.
            key: Its key.
            refresh_ttl: Begin its ttl anew. None: as the store was told.

        Raises:
            InvalidNamespace: a label is empty, no text, or holds a NUL.
            AccessDenied: this principal may not read here.
        """
        found: Item | None = self.batch([self._get(namespace, key, refresh_ttl=refresh_ttl)])[0]  # type: ignore[assignment] # -- told by the operation
        return found

    @override
    async def aget(
        self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None = None
    ) -> Item | None:
        """As `get`."""
        found: Item | None = (await self.abatch([self._get(namespace, key, refresh_ttl=refresh_ttl)]))[0]  # type: ignore[assignment] # -- as in `get`
        return found

    @override
    def search(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """Items below a namespace prefix: by relevance to `query`, or newest change first.

        A query leaves none out: those that it cannot rank follow the others, with no score.

        Args:
            namespace_prefix: Labels that the namespace starts with; `()` for all.
            query: Words or a question.
            filter: Fields the value must have; operators $eq $ne $gt $gte $lt $lte $in $nin $exists $contains,
                $and and $or.
            limit: At most so many.
            offset: Pass over so many first.
            refresh_ttl: Begin the ttl of what is returned anew. None: as the store was told.

        Raises:
            InvalidNamespace: a label is empty, no text, or holds a NUL.
            BadInput: the filter, the limit or the offset cannot be taken.
            AccessDenied: this principal may not read here.
        """
        op = SearchOp(namespace_prefix, filter, limit, offset, query, self._refreshes(asked=refresh_ttl))
        found: list[SearchItem] = self.batch([op])[0]  # type: ignore[assignment] # -- as in `get`
        return found

    @override
    async def asearch(
        self,
        namespace_prefix: tuple[str, ...],
        /,
        *,
        query: str | None = None,
        filter: dict[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> list[SearchItem]:
        """As `search`."""
        op = SearchOp(namespace_prefix, filter, limit, offset, query, self._refreshes(asked=refresh_ttl))
        found: list[SearchItem] = (await self.abatch([op]))[0]  # type: ignore[assignment] # -- as in `get`
        return found

    @override
    def put(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """Write `value` under (namespace, key), durable when it returns.

        Args:
            namespace: Labels, from the widest to the narrowest.
            key: Unique within the namespace.
            value: A JSON object.
            index: Paths of the fields a query finds it by; None for those of the store, False for none.
            ttl: Minutes after which it is gone; None for ever. Left out: the store's default.

        Raises:
            InvalidNamespace: it is empty, begins with "langgraph", or a label cannot be one.
            BadValue: the value is no JSON object; a TypeError too.
            BadInput: the key, a path or the ttl cannot be taken.
            AccessDenied: this principal may not write here.
            EmbedderUnavailable: the embedder's model cannot be had.
        """
        self.batch([self._put(namespace, key, value, index, ttl)])

    @override
    async def aput(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None = None,
        *,
        ttl: float | NotProvided | None = NOT_PROVIDED,
    ) -> None:
        """As `put`."""
        await self.abatch([self._put(namespace, key, value, index, ttl)])

    @override
    def delete(self, namespace: tuple[str, ...], key: str) -> None:
        """Erase the item under (namespace, key), if there is one.

        Raises:
            InvalidNamespace: a label is empty, no text, or holds a NUL.
            AccessDenied: this principal may not write here.
        """
        self.batch([PutOp(namespace, str(key), None)])

    @override
    async def adelete(self, namespace: tuple[str, ...], key: str) -> None:
        """As `delete`."""
        await self.abatch([PutOp(namespace, str(key), None)])

    @override
    def list_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """Namespaces that hold an item, in order; `*` in a prefix or suffix stands for any label.

        Args:
            prefix: Labels it must start with.
            suffix: Labels it must end with.
            max_depth: Cut namespaces to so many labels.
            limit: At most so many.
            offset: Pass over so many first.

        Raises:
            InvalidNamespace: a label is empty, no text, or holds a NUL.
            BadInput: the depth, the limit or the offset cannot be taken.
            AccessDenied: this principal may not read here.
        """
        op = _listing(prefix, suffix, max_depth, limit, offset)
        found: list[tuple[str, ...]] = self.batch([op])[0]  # type: ignore[assignment] # -- as in `get`
        return found

    @override
    async def alist_namespaces(
        self,
        *,
        prefix: NamespacePath | None = None,
        suffix: NamespacePath | None = None,
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[tuple[str, ...]]:
        """As `list_namespaces`."""
        op = _listing(prefix, suffix, max_depth, limit, offset)
        found: list[tuple[str, ...]] = (await self.abatch([op]))[0]  # type: ignore[assignment] # -- as in `get`
        return found

    def _refreshes(self, *, asked: bool | None) -> bool:
        return (self.ttl_config or {}).get("refresh_on_read", True) if asked is None else asked

    def _get(self, namespace: tuple[str, ...], key: str, *, refresh_ttl: bool | None) -> GetOp:
        return GetOp(namespace, str(key), self._refreshes(asked=refresh_ttl))

    def _put(
        self,
        namespace: tuple[str, ...],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | list[str] | None,
        ttl: float | NotProvided | None,
    ) -> PutOp:
        check_labels(namespace)
        check_place(namespace)
        minutes = (self.ttl_config or {}).get("default_ttl") if isinstance(ttl, NotProvided) else ttl
        return PutOp(namespace, str(key), value, index, minutes)


def _listing(
    prefix: NamespacePath | None, suffix: NamespacePath | None, max_depth: int | None, limit: int, offset: int
) -> ListNamespacesOp:
    conditions = [
        *([] if prefix is None else [MatchCondition("prefix", prefix)]),
        *([] if suffix is None else [MatchCondition("suffix", suffix)]),
    ]
    return ListNamespacesOp(tuple(conditions), max_depth, limit, offset)
