"""LangGraph's index configuration as the engine's embedder: any `Embeddings`, function or provider string.

A function that is async is awaited where the caller is: `abatch` runs the batch in a thread, which
gives up with `TextsWanted` when it lacks vectors; `abatch` awaits them on its own loop and runs the
batch again. No thread waits for a loop, so none can be waited for in turn.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
from langchain_core.embeddings import Embeddings
from langgraph.store.base import IndexConfig
from langgraph.store.base.embed import EmbeddingsLambda, ensure_embeddings
from numpy.typing import NDArray

from memos_engine import BadInput, BadVector, Embedder, EmbedderUnavailable

Answers: TypeAlias = dict[str, Sequence[float]]
"""Vectors by text, as far as an async function was awaited for them."""
_AsyncFunction: TypeAlias = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]

AWAITED: ContextVar[Answers | None] = ContextVar("AWAITED", default=None)
"""What was awaited for the batch at work; None where nobody awaits."""

_NO_INDEX = (
    "this store was opened without an index: hand over index={'dims': ..., 'embed': ...} to search by meaning"
)


class TextsWanted(Exception):
    """An async function must be awaited for texts before the batch can be run."""

    def __init__(self, texts: list[str], function: _AsyncFunction) -> None:
        super().__init__(f"{len(texts)} texts wait for their vectors")
        self._texts = texts
        self._function = function

    async def answer(self, answers: Answers) -> None:
        """Await the vectors and keep them.

        Raises:
            BadVector: the function returned another number of them.
        """
        token = AWAITED.set(None)  # what the function itself does with a store is none of this batch
        try:
            rows = await self._function(self._texts)
        finally:
            AWAITED.reset(token)
        answers.update(zip(self._texts, _as_many(rows, self._texts), strict=True))


class IndexEmbedder:
    """LangGraph's `embed` of an index configuration, as an `Embedder`.

    Args:
        embeddings: What LangGraph makes of it.
        dims: Width of its vectors. None: any.
        fingerprint: A name that changes whenever the vectors would.
    """

    def __init__(self, embeddings: Embeddings, dims: int | None, fingerprint: str) -> None:
        self.embeddings = embeddings
        self._dims = dims
        self._fingerprint = fingerprint
        # a function without a sync twin, wrapped by LangGraph
        self._function: _AsyncFunction | None = None
        if isinstance(embeddings, EmbeddingsLambda) and not hasattr(embeddings, "func"):
            self._function = embeddings.aembed_documents

    @property
    def fingerprint(self) -> str:
        """The name given on construction."""
        return self._fingerprint

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text: shape (len(texts), D), float32.

        Raises:
            BadVector: they are not as wide as `dims` says, or not as many as the texts.
        """
        if not texts:
            return np.empty((0, self._dims or 0), np.float32)
        rows = self._rows(list(texts)) if self._function is None else self._awaited(list(texts))
        return self._checked(rows)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the row (D,) of a question, which a model may read otherwise than what answers it.

        Raises:
            BadVector: it is not as wide as `dims` says.
        """
        rows = [self.embeddings.embed_query(text)] if self._function is None else self._awaited([text])
        row: NDArray[np.float32] = self._checked(rows)[0]
        return row

    def _rows(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """The vectors of texts; what is there twice is asked for once."""
        once = list(dict.fromkeys(texts))
        rows = dict(zip(once, _as_many(self.embeddings.embed_documents(once), once), strict=True))
        return [rows[text] for text in texts]

    def _awaited(self, texts: list[str]) -> Sequence[Sequence[float]]:
        assert self._function is not None, "an async function"
        answers = AWAITED.get()
        if answers is None:  # a sync call: in a thread, for this one may run a loop
            answers = {}
            wanted = TextsWanted(list(dict.fromkeys(texts)), self._function)
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, wanted.answer(answers)).result()
        missing = [text for text in dict.fromkeys(texts) if text not in answers]
        if missing:
            raise TextsWanted(missing, self._function)
        return [answers[text] for text in texts]

    def _checked(self, rows: Any) -> NDArray[np.float32]:
        try:
            found = np.asarray(rows, np.float32)
        except (TypeError, ValueError) as exc:
            raise BadVector(
                f"embed returned no rows of numbers: {exc}. Return one list of floats per text."
            ) from exc
        if found.ndim != 2 or (self._dims is not None and found.shape[1] != self._dims):
            raise BadVector(
                f"embed returned shape {found.shape!r}, index['dims'] is {self._dims!r}: make them agree"
            )
        return found


class NoEmbedder:
    """The embedder of a store without an index: there is none, and nobody asks it but to search by meaning."""

    @property
    def fingerprint(self) -> str:
        """None.

        Raises:
            EmbedderUnavailable: always.
        """
        raise EmbedderUnavailable(_NO_INDEX)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed nothing.

        Raises:
            EmbedderUnavailable: always.
        """
        raise EmbedderUnavailable(_NO_INDEX)


def embedder_of(index: IndexConfig, fingerprint: str | None = None) -> Embedder:
    """The embedder of an index configuration.

    Args:
        index: LangGraph's; `embed` may also be an `Embedder` of the engine.
        fingerprint: A name that changes whenever the vectors would. None: made of what `embed` is called.

    Raises:
        BadInput: there is nothing to embed with, or `dims` is no width.
    """
    embed: Any = index.get("embed")
    dims = index.get("dims")
    if dims is not None and (isinstance(dims, bool) or not isinstance(dims, int) or dims < 1):
        raise BadInput(f"index['dims'] is {dims!r}: it must be the width of the vectors")
    if callable(getattr(type(embed), "embed", None)):
        own: Embedder = embed
        return own
    if not (callable(embed) or isinstance(embed, (Embeddings, str))):
        raise BadInput(
            f"index['embed'] is {embed!r:.80}: hand over Embeddings, a function from texts to vectors, "
            "or a text such as 'openai:text-embedding-3-small'"
        )
    return IndexEmbedder(ensure_embeddings(embed), dims, fingerprint or _called(embed, dims))


def fields_of(index: IndexConfig) -> list[str] | None:
    """The paths that are indexed; None for the whole value. LangGraph's SqliteStore calls them `text_fields`."""
    named: dict[str, Any] = dict(index)
    fields = named.get("fields") or named.get("text_fields")
    return [fields] if isinstance(fields, str) else fields


def _called(embed: Any, dims: int | None) -> str:
    """A name that is the same in every process: the class's or function's, with the model it names."""
    if isinstance(embed, str):
        return f"langgraph:{embed}:d{dims}"
    while isinstance(embed, functools.partial):
        embed = embed.func
    is_function = hasattr(embed, "__qualname__")
    name = embed.__qualname__ if is_function else type(embed).__qualname__
    models = [getattr(embed, field, None) for field in ("model", "model_name", "model_id", "repo_id")]
    model = next((model for model in models if isinstance(model, str) and model), "")
    return f"langgraph:{name}:{model}:d{dims}" if model and not is_function else f"langgraph:{name}:d{dims}"


def _as_many(rows: Any, texts: list[str]) -> Sequence[Sequence[float]]:
    """Rows, if there is one per text.

    Raises:
        BadVector: there are more or fewer.
    """
    if not hasattr(rows, "__len__") or len(rows) != len(texts):
        raise BadVector(
            f"embed returned {len(rows) if hasattr(rows, '__len__') else type(rows).__name__} rows for "
            f"{len(texts)} texts: return one per text"
        )
    found: Sequence[Sequence[float]] = rows
    return found
