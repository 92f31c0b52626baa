"""LangChain's documents as key-value entries, and conditions on their metadata. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.documents import Document

from memos_engine import BadInput, KvEntry, KvPut


def put_of(document: Document, namespace: tuple[str, ...], key: str) -> KvPut:
    """The entry of a document: a query finds it by its text, a filter reads its metadata."""
    value: dict[str, Any] = {"page_content": document.page_content, "metadata": document.metadata}
    return KvPut(namespace, key, value, index=("page_content",))


def document_of(entry: KvEntry) -> Document:
    """The document that `put_of` wrote, with its key as its id."""
    value = cast("dict[str, Any]", entry.value)
    return Document(page_content=value["page_content"], metadata=value["metadata"], id=entry.key)


def on_metadata(condition: object) -> dict[str, Any]:
    """A condition on metadata as one on entries, which hold it in a field.

    Raises:
        BadInput: it is no dict, or an operator stands where a field should.
    """
    if not isinstance(condition, Mapping):
        raise BadInput(f"filter is a {type(condition).__name__}: hand over a dict, as in {{'year': 2020}}")
    fields: dict[str, Any] = {}
    both: dict[str, Any] = {}
    for name, wanted in condition.items():
        if name in {"$and", "$or"} and isinstance(wanted, list):
            both[name] = [on_metadata(part) for part in wanted]
        elif isinstance(name, str) and name.startswith("$"):
            raise BadInput(f"operator {name!r} needs a field before it, as in {{'year': {{'$gte': 2020}}}}")
        else:
            fields[name] = wanted
    return {"metadata": fields, **both} if fields else both
