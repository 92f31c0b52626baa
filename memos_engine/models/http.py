"""Models behind HTTP: chat and reranking by any server that speaks the common forms.

What a request is made of and what an answer means; how it is sent, and sent again, is the door's.
What is sent is the prompt or the texts, and nothing else of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import BadLimit, BadName, BadText
from memos_engine.models.http_door import HttpModel, door_url
from memos_engine.models.rerank import checked_scores
from memos_engine.ports import ChatMessage

__all__ = ["HttpChatModel", "HttpReranker", "chat_request", "chat_url"]


class HttpChatModel(HttpModel):
    """A chat model behind an OpenAI-compatible server: vLLM, Ollama, llama.cpp, OpenAI and others.

    Connections are kept between calls. Thread-safe; after a fork, make a new one.

    Args:
        base_url: Where the server is, such as `http://localhost:8000` or `https://api.openai.com/v1`:
            a bare host gets `/v1/chat/completions`, a path only `/chat/completions`. Plain http with a
            key is taken for local and private hosts alone.
        model: The model's name at that server.
        api_key: Sent as a bearer token. None sends none.
        timeout_s: Seconds for one try.
        retries: How often it is tried again when the server cannot be reached, takes too long, says it
            is busy (408, 425, 429) or fails (5xx). It waits 0.5 s, 1 s, 2 s, ... or what `Retry-After`
            says, at most 60 s.

    Raises:
        BadName: The URL, the model or the key cannot be one.
        BadLimit: `timeout_s` or `retries` is absurd.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60,
        retries: int = 2,
    ) -> None:
        super().__init__(chat_url(base_url), model, api_key, timeout_s, retries)

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 512, temperature: float = 0.0
    ) -> str:
        """Return the text of the first answer, as it came; it may be empty.

        Lone surrogates are sent as `?`.

        Raises:
            BadText: There is no message.
            BadLimit: `max_tokens` is less than 1, or `temperature` not from 0 to 2.
            ModelRefused: The server refused: a wrong key, an unknown model, too long a prompt.
            ModelUnavailable: No httpx; or the server is away, too slow, busy or failing to the last try.
            ModelFailed: What came is no such answer.
        """
        request = chat_request(self._model, messages, max_tokens, temperature)
        match self._server.asked(request):
            case {"choices": [{"message": {"content": str(content)}}, *_]}:
                return content
            case _:
                raise self._server.malformed("choices[0].message.content")


class HttpReranker(HttpModel):
    """A reranker behind a server with a `/rerank` door: Jina, Cohere, vLLM, llama.cpp, TEI and others.

    Scores are on the server's scale. Connections and threads: as of `HttpChatModel`.

    Args:
        base_url: Where the server is, such as `http://localhost:8080` or `https://api.jina.ai/v1`;
            `/rerank` is added.
        model: The model's name at that server.
        api_key: As of `HttpChatModel`.
        texts_field: What the request calls the texts. `texts` is the form of Hugging Face's
            text-embeddings-inference (TEI), which serves one model and cuts long texts.
        batch_size: Texts per request. None means 100, and 32 in TEI's form, which is what it takes
            unless it is told otherwise.
        timeout_s: Seconds for one try of one request.
        retries: As of `HttpChatModel`.

    Raises:
        BadName: The URL, the model or the key cannot be one.
        BadLimit: `batch_size`, `timeout_s` or `retries` is absurd.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        texts_field: Literal["documents", "texts"] = "documents",
        batch_size: int | None = None,
        timeout_s: float = 60,
        retries: int = 2,
    ) -> None:
        if texts_field not in {"documents", "texts"}:
            raise BadName(f"texts_field={texts_field!r} is neither 'documents' nor 'texts'.")
        if batch_size is not None and batch_size < 1:
            raise BadLimit(f"batch_size={batch_size!r} must be at least 1.")
        super().__init__(
            door_url(base_url, bare="/rerank", path="/rerank"), model, api_key, timeout_s, retries
        )
        self._field = texts_field
        self._batch_size = batch_size or (32 if texts_field == "texts" else 100)

    @property
    def fingerprint(self) -> str:
        """The server's address and the model's name: what else decides the scores is the server's to know."""
        return f"http:{self._server.url}:{self._model}"

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one score per text, in order: shape (len(texts),), float32. No texts are no request.

        Lone surrogates are sent as `?`.

        Raises:
            ModelRefused: The server refused: a wrong key, an unknown model, too many or too long texts.
            ModelUnavailable: No httpx; or the server is away, too slow, busy or failing to the last try.
            ModelFailed: What came is no score for every text.
        """
        out = np.zeros(len(texts), dtype=np.float32)
        for start in range(0, len(texts), self._batch_size):
            batch = list(texts[start : start + self._batch_size])
            out[start : start + len(batch)] = self._batch_scores(query, batch)
        return out

    def _batch_scores(self, query: str, texts: list[str]) -> NDArray[np.float32]:
        own = {"truncate": True} if self._field == "texts" else {"top_n": len(texts)}
        answer = self._server.asked({"model": self._model, "query": query, self._field: texts, **own})
        found = answer.get("results") if isinstance(answer, dict) else answer
        if not isinstance(found, list):
            raise self._server.malformed("a list of results")
        try:
            scores = {entry["index"]: entry.get("relevance_score", entry.get("score")) for entry in found}
        except (AttributeError, KeyError, TypeError) as exc:
            raise self._server.malformed("index and relevance_score of every result") from exc
        if len(found) != len(texts) or scores.keys() != set(range(len(texts))):
            raise self._server.malformed(f"one result for each of {len(texts)} texts")
        return checked_scores([scores[index] for index in range(len(texts))], len(texts))


def chat_url(base_url: str) -> str:
    """Return the address at which an OpenAI-compatible server takes messages.

    Raises:
        BadName: `base_url` is no address of a server.
    """
    return door_url(base_url, bare="/v1/chat/completions", path="/chat/completions")


def chat_request(
    model: str, messages: Sequence[ChatMessage], max_tokens: int, temperature: float
) -> dict[str, Any]:
    """Return what such a server is asked, in the form that all of them take.

    Raises:
        BadText: There is no message.
        BadLimit: `max_tokens` is less than 1, or `temperature` not from 0 to 2.
    """
    if not messages:
        raise BadText("There is no message to answer: pass at least one.")
    if max_tokens < 1 or not 0 <= temperature <= 2:
        raise BadLimit(f"{max_tokens=} must be at least 1, and {temperature=} from 0 to 2.")
    prompt = [{"role": message.role, "content": message.content} for message in messages]
    return {"model": model, "messages": prompt, "max_tokens": max_tokens, "temperature": temperature}
