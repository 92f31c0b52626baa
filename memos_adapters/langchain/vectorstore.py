"""A vector store of LangChain over one cube: documents as key-value entries, found by vectors and words.

A document is the entry of its id: the caller's ids stay what they are, and adding one again replaces it.
Only its text is searched; its metadata is what a filter reads. The engine makes the vectors and ranks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from memos_adapters._identity import Isolation, Memories
from memos_adapters.langchain._config import configurable
from memos_adapters.langchain._documents import document_of, on_metadata, put_of
from memos_adapters.langchain.embeddings import MemosEmbeddings, fingerprint_of, wrapped
from memos_engine import BadInput, KeyValues, KvDelete, MemCube, MemOS

_WHO = ("user_id", "agent_id", "session_id")
_SAID = "said"
_CALL = frozenset({*_WHO, "filter", _SAID})
"""What every call may say; `said` is what a config says, handed on by a retriever."""
_PAGE = 1_000


class MemosVectorStore(VectorStore):
    """Documents in a cube of their own, each user's apart: `MemosVectorStore(memos, user_id="alice")`.

    Every search takes `filter=`, conditions on a document's metadata as in `KeyValues.search`
    (`{"year": {"$gte": 2020}}`), and every call `user_id=`, `agent_id=` and `session_id=`, which the
    config of the chain that runs may name instead. It ranks by vectors and words together; a score is 0..1,
    higher is better, and no document is left out for a low one.
    """

    def __init__(
        self,
        memos: MemOS | MemCube,
        *,
        embedding: Embeddings | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        default_user: str | None = None,
        cube: str = "documents",
        isolation: Isolation = "user",
        collection: str = "documents",
    ) -> None:
        """Keep documents for the users named here, or by each call.

        Args:
            memos: What `MemOS.open` returned, or a `MemCube` of it.
            embedding: The embedder that `memos` was opened with, as LangChain knows it. None: it is wrapped;
                of a `MemCube` it is not known, and there is no search for diversity.
            user_id: Whose documents, for good.
            agent_id: The agent, for good.
            session_id: The session, for good.
            default_user: Who is meant when a call names nobody. None: such a call is refused.
            cube: Name of the cube of each user. What stands in the cube of memories is recalled with them.
            isolation: What has a cube of its own.
            collection: Stores of other names hold other documents.

        Raises:
            BadInput: an argument cannot be taken.
        """
        self._memories = Memories(
            memos, user_id=user_id, agent_id=agent_id, session_id=session_id, default_user=default_user,
            cube=cube, isolation=isolation,
        )  # fmt: skip
        self._embedding = embedding
        if embedding is None and isinstance(memos, MemOS):
            self._embedding = MemosEmbeddings(memos.embedder)
        self._namespace = (collection,)
        self._opened: MemOS | None = None

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path | None = None,
        fingerprint: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open or create the folder `path` with an embedder of LangChain, and add texts to it.

        What it opens `close` closes. To add to a `MemOS` that is open, use the constructor.

        Args:
            texts: The documents' texts.
            embedding: Makes the vectors, for good: another is refused when the folder is opened again.
            metadatas: One for each text, of JSON values.
            ids: One for each text. None: they are made.
            path: The folder.
            fingerprint: A name that changes whenever the vectors would. None: the embedder's class, and
                model and size as far as it tells them.
            **kwargs: As of the constructor. Without a user or an agent the documents are the folder's own.

        Raises:
            BadInput: there is no path, or something cannot be taken.
            EmbedderMismatch: the folder's documents were embedded by another embedder.
        """
        if path is None:
            raise BadInput(
                "a vector store needs a folder: name it, as in from_texts(texts, embedding, path=...)"
            )
        memos = MemOS.open(path, embedder=wrapped(embedding, fingerprint or fingerprint_of(embedding)))
        try:
            named = any(kwargs.get(name) is not None for name in (*_WHO, "default_user"))
            where = memos if named else memos.cube(kwargs.pop("cube", "documents"))
            store = cls(where, embedding=embedding, **kwargs)
            store._opened = memos
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            memos.close()
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """As `from_texts`."""
        return await asyncio.to_thread(cls.from_texts, texts, embedding, metadatas, ids=ids, **kwargs)

    def close(self) -> None:
        """Close the folder that `from_texts` opened; one that was handed over stays open."""
        if self._opened is not None:
            self._opened.close()

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedder of the documents. None: it is not known."""
        return self._embedding

    # Write

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Write documents, all or none, and return their ids; one whose id is there takes its place.

        Args:
            documents: Their metadata must be JSON; they are not changed.
            ids: One for each. None: the documents' own; one without gets a new id.
            **kwargs: `user_id`, `agent_id`, `session_id`. `batch_size` is passed over: it is one write.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not write.
            BadInput: an id, a text or metadata cannot be taken, or there is not one id for each document.
        """
        kwargs.pop("batch_size", None)
        documents = list(documents)
        names = [document.id for document in documents] if ids is None else list(ids)
        if len(names) != len(documents):
            raise BadInput(f"{len(documents)} documents came with {len(names)} ids: hand over one for each")
        kept = [name or str(uuid4()) for name in names]
        puts = [
            put_of(document, self._namespace, name) for name, document in zip(kept, documents, strict=True)
        ]
        self._kv(kwargs).batch(puts)
        return kept

    async def aadd_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """As `add_documents`."""
        return await asyncio.to_thread(self.add_documents, documents, **kwargs)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_documents`, of texts with their metadata.

        Raises:
            BadInput: as there, or there is not one metadata for each text.
        """
        several = list(texts)
        told = metadatas or [{} for _ in several]
        if len(told) != len(several):
            raise BadInput(f"{len(several)} texts came with {len(told)} metadatas: hand over one for each")
        documents = [Document(text, metadata=each) for text, each in zip(several, told, strict=True)]
        return self.add_documents(documents, ids=ids, **kwargs)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_texts`."""
        return await asyncio.to_thread(self.add_texts, texts, metadatas, ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Erase documents, from the disk too; an id that is not there is passed over.

        Args:
            ids: Which. None: ALL of the collection, as LangChain has it.
            **kwargs: `user_id`, `agent_id`, `session_id`.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not write.
        """
        kv = self._kv(kwargs)
        wanted = self._all(kv) if ids is None else ids
        kv.batch([KvDelete(self._namespace, name) for name in wanted])
        return True

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """As `delete`."""
        return await asyncio.to_thread(self.delete, ids, **kwargs)

    # Read

    def get_by_ids(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """The documents of these ids, in their order, each once; one that is not there is left out.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not read.
        """
        places = [(self._namespace, name) for name in dict.fromkeys(ids)]
        return [document_of(entry) for entry in self._kv(kwargs).get_many(places) if entry is not None]

    async def aget_by_ids(self, ids: Sequence[str], /, **kwargs: Any) -> list[Document]:
        """As `get_by_ids`."""
        return await asyncio.to_thread(self.get_by_ids, ids, **kwargs)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The `k` best documents for `query`, best first; a blank one finds none.

        Args:
            query: Words or a question.
            k: At most so many.
            **kwargs: `filter`, `user_id`, `agent_id`, `session_id`.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not read.
            BadInput: the query, `k` or the filter cannot be taken.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """As `similarity_search`."""
        return await asyncio.to_thread(self.similarity_search, query, k, **kwargs)

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, each document with its score: 0..1, higher is better."""
        kv = self._kv(kwargs)
        if not query.strip():
            return []
        condition = on_metadata(kwargs.get("filter") or {})
        found = kv.search(self._namespace, query=query, filter=condition, limit=k)
        return [
            (document_of(entry), min(max(entry.score or 0.0, 0.0), 1.0))
            for entry in found
            if entry.namespace == self._namespace
        ]

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`."""
        return await asyncio.to_thread(self.similarity_search_with_score, query, k, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: score

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Of the `fetch_k` best documents the `k` that are near to `query` and unlike each other.

        The documents fetched are embedded once more for it.

        Args:
            query: Words or a question.
            k: At most so many.
            fetch_k: Among how many.
            lambda_mult: 1 looks at nearness alone, 0 at variety.
            **kwargs: As of `similarity_search`.

        Raises:
            IdentityMissing: nothing names a user or an agent.
            AccessDenied: who is named may not read.
            BadInput: something cannot be taken, or the embedder is not known.
        """
        if self._embedding is None:
            raise BadInput(
                "the embedder of this cube is not known: hand it over, as in MemosVectorStore(cube, embedding=...)"
            )
        found = self.similarity_search(query, max(k, fetch_k), **kwargs)
        if not found:
            return []
        asked = np.asarray(self._embedding.embed_query(query), np.float32)
        rows = self._embedding.embed_documents([document.page_content for document in found])
        return [found[n] for n in maximal_marginal_relevance(asked, rows, lambda_mult, k)]

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As `max_marginal_relevance_search`."""
        return await asyncio.to_thread(
            self.max_marginal_relevance_search, query, k, fetch_k, lambda_mult, **kwargs
        )

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """A retriever over these documents; the `user_id` of its call's config counts.

        Args:
            **kwargs: `search_type` (`similarity`, `similarity_score_threshold`, `mmr`), `search_kwargs`, and
                other fields of the retriever.
        """
        tags = kwargs.pop("tags", None) or self._get_retriever_tags()
        return _Retriever(vectorstore=self, tags=tags, **kwargs)

    def _kv(self, call: Mapping[str, Any]) -> KeyValues:
        """The entries of who a call is for."""
        unknown = sorted(set(call) - _CALL)
        if unknown:
            raise BadInput(
                f"unknown argument {unknown[0]!r}: known beside its own are {', '.join(sorted(_CALL))}"
            )
        return self._memories.cube(call, call.get(_SAID), configurable()).kv

    def _all(self, kv: KeyValues) -> list[str]:
        """Ids of all documents."""
        found, start = list[str](), 0
        while page := kv.search(self._namespace, limit=_PAGE, offset=start):
            found += [entry.key for entry in page]
            start += len(page)
        return found


class _Retriever(VectorStoreRetriever):
    """Hands on what its call's config says, which LangChain keeps from a vector store."""

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """The documents about `input`, best first."""
        return super().invoke(input, config, **kwargs, **{_SAID: configurable(config)})

    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `invoke`."""
        return await super().ainvoke(input, config, **kwargs, **{_SAID: configurable(config)})
