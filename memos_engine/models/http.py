"""Models behind HTTP: chat and reranking by any server that speaks the common forms. The only HTTP here.

What is sent is the prompt or the texts, and nothing else of a store. No environment variable is read:
no proxy, no key. A redirect is never followed, so a key stays with the host it was given for. Neither
the key nor what was sent stands in an error, a log or a `repr`; an error quotes the server's answer in
a short piece, the key taken out. httpx is imported on first use only.
"""

from __future__ import annotations

import ipaddress
import json
import math
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from memos_engine.errors import BadLimit, BadName, BadText, ModelFailed, ModelRefused, ModelUnavailable
from memos_engine.models.rerank import checked_scores
from memos_engine.ports import ChatMessage

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpChatModel", "HttpReranker"]

_BACKOFF_S = 0.5  # before the second try; it doubles from try to try
_WAIT_MAX_S = 60.0
_ANSWER_BYTES_MAX = 16 << 20
_QUOTED_CHARS_MAX = 200
_TRY_AGAIN = frozenset({408, 425, 429})  # what another try may cure, besides 5xx
_INSTALL = "HTTP needs httpx, which is not installed ({exc}). Type: pip install 'memos-adapters[http]'."
_CURES = {
    401: "Check api_key",
    403: "Check api_key and what it may use",
    404: "Check base_url and the model's name",
    413: "Send less at once: a smaller batch_size, or shorter texts",
}


class _HttpModel:
    """What both have: a model's name, and the door of a server."""

    def __init__(self, url: str, model: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        if not model.strip():
            raise BadName(f"{model!r} is no model's name: ask the server for its models.")
        self._model = model
        self._server = _Server(url, api_key, timeout_s, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.url!r}, {self._model!r})"

    def close(self) -> None:
        """Let the connections go, when no call is under way; the next call opens new ones."""
        self._server.close()


class HttpChatModel(_HttpModel):
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
        url = _url(base_url, bare="/v1/chat/completions", path="/chat/completions")
        super().__init__(url, model, api_key, timeout_s, retries)

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
        if not messages:
            raise BadText("There is no message to answer: pass at least one.")
        if max_tokens < 1 or not 0 <= temperature <= 2:
            raise BadLimit(f"{max_tokens=} must be at least 1, and {temperature=} from 0 to 2.")
        prompt = [{"role": message.role, "content": message.content} for message in messages]
        limits = {"max_tokens": max_tokens, "temperature": temperature}
        match self._server.asked({"model": self._model, "messages": prompt, **limits}):
            case {"choices": [{"message": {"content": str(content)}}, *_]}:
                return content
            case _:
                raise self._server.malformed("choices[0].message.content")


class HttpReranker(_HttpModel):
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
        super().__init__(_url(base_url, bare="/rerank", path="/rerank"), model, api_key, timeout_s, retries)
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


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server said: a status, what it said about waiting, where it points to, and the body."""

    status: int
    retry_after: str | None
    location: str | None
    body: bytes


class _Server:
    """One address that takes JSON by POST and answers JSON; knows when to try again."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise BadLimit(f"timeout_s={timeout_s!r} must be a number of seconds above 0.")
        if not 0 <= retries <= 10:
            raise BadLimit(f"retries={retries!r} must be 0 to 10.")
        if api_key is not None:
            _require_key(api_key, url)
        self.url = url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._retries = retries
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def asked(self, request: Mapping[str, Any]) -> object:
        """Return the JSON of the server's answer to `request`, after as many tries as it takes."""
        body = json.dumps(request, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        for attempt in range(self._retries + 1):
            answer = self._tried(body)
            if isinstance(answer, _Answer) and 200 <= answer.status < 300:
                return self._parsed(answer.body)
            if isinstance(answer, _Answer) and answer.status < 500 and answer.status not in _TRY_AGAIN:
                raise self._refused(answer)
            wait_s = _wait_s(attempt, answer, datetime.now(UTC))
            if attempt >= self._retries or wait_s > _WAIT_MAX_S:
                raise self._unavailable(answer, attempt + 1, wait_s)
            time.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def malformed(self, expected: str, body: bytes | None = None) -> ModelFailed:
        """Return the error for an answer that lacks what was `expected`."""
        said = "" if body is None else f" It said {self._quoted(body)!r}."
        return ModelFailed(
            f"The server at {self.url!r} answered without {expected}.{said} Check that base_url is the "
            "address of such a server, and the model's name."
        )

    def close(self) -> None:
        """Let the connections go."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _opened(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                try:
                    import httpx  # noqa: PLC0415 -- needed by those who talk to a server only
                except ImportError as exc:
                    raise ModelUnavailable(_INSTALL.format(exc=exc)) from exc
                key = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
                headers = {"Content-Type": "application/json", "Accept": "application/json", **key}
                self._client = httpx.Client(
                    headers=headers, timeout=self._timeout_s, follow_redirects=False, trust_env=False
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _tried(self, body: bytes) -> _Answer | Exception:
        """Send `body` once. A failure on the way is returned, for `asked` to decide on."""
        client = self._opened()
        import httpx  # noqa: PLC0415 -- loaded by `_opened`

        until, read = time.monotonic() + self._timeout_s, bytearray()
        try:
            with client.stream("POST", self.url, content=body) as response:
                for piece in response.iter_bytes():
                    read += piece
                    if len(read) > _ANSWER_BYTES_MAX:
                        raise self.malformed(f"an end within {_ANSWER_BYTES_MAX >> 20} MiB")
                    if time.monotonic() > until:  # httpx's own time-out begins anew with every piece
                        return TimeoutError(f"no end of the answer within {self._timeout_s:g} s")
                wait, place = (response.headers.get(name) for name in ("retry-after", "location"))
                return _Answer(response.status_code, wait, place, bytes(read))
        except (httpx.InvalidURL, UnicodeError) as exc:  # the latter is idna's
            raise BadName(f"{self.url!r} is no address: {exc}. Write http://host:port.") from exc
        except httpx.RequestError as exc:
            return exc

    def _parsed(self, body: bytes) -> object:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as exc:
            raise self.malformed("JSON", body) from exc

    def _refused(self, answer: _Answer) -> ModelRefused:
        if 300 <= answer.status < 400:
            return ModelRefused(
                f"The server at {self.url!r} sends to another address ({answer.status}, "
                f"{_host(answer.location)!r}), which is not followed. Pass the final one as base_url."
            )
        return ModelRefused(
            f"The server at {self.url!r} refused the request ({answer.status}): {self._quoted(answer.body)!r}. "
            f"{_CURES.get(answer.status, 'Change what its answer names')}."
        )

    def _unavailable(self, answer: _Answer | Exception, tries: int, wait_s: float) -> ModelUnavailable:
        often = f"tried {tries} times" if tries > 1 else "tried once"
        if isinstance(answer, _Answer):
            asks = f", and asks to wait {wait_s:.0f} s" if wait_s > _WAIT_MAX_S else ""
            what = f"does not serve ({answer.status}{asks}; {often}): {self._quoted(answer.body)!r}"
        else:
            what = f"was not reached ({type(answer).__name__}: {self._redacted(str(answer))}; {often})"
        cure = f"raise timeout_s ({self._timeout_s:g}) and retries ({self._retries})"
        error = ModelUnavailable(
            f"The server at {self.url!r} {what}. See that it runs and has room, or {cure}."
        )
        error.__cause__ = answer if isinstance(answer, Exception) else None
        return error

    def _quoted(self, body: bytes) -> str:
        """Return the beginning of a server's answer on one line, without the key."""
        said = " ".join(self._redacted(body[: 64 << 10].decode("utf-8", "replace")).split())
        return said if len(said) <= _QUOTED_CHARS_MAX else f"{said[:_QUOTED_CHARS_MAX]}..."

    def _redacted(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text


def _wait_s(attempt: int, answer: _Answer | Exception, now: datetime) -> float:
    """Return how many seconds to wait after the try number `attempt`, from 0 on.

    What the server asks for in `Retry-After` counts, as seconds or as a date (RFC 9110, 10.2.3).
    """
    asked = answer.retry_after if isinstance(answer, _Answer) else None
    if asked:
        try:
            seconds = float(asked)
        except ValueError:
            try:
                until = parsedate_to_datetime(asked)
            except ValueError:
                until = now
            seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
        if seconds > 0:
            return seconds
    return _BACKOFF_S * 2.0**attempt


def _url(base_url: str, *, bare: str, path: str) -> str:
    """Return the address of a door: `bare` behind a host without a path, else `path`, unless it is there."""
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, fits = urlsplit(""), False
    if "@" in base_url:
        raise BadName("The base_url holds a name or a password. Leave them out and pass api_key.")
    if not fits or parts.query or parts.fragment or base_url.split() != [base_url]:
        raise BadName(
            f"The base_url at {_host(base_url)!r} is no address of a server. Write http://host:port or "
            "https://host/v1, with nothing behind the path."
        )
    folder = parts.path.rstrip("/")
    door = "" if folder.endswith(path) else path if folder else bare
    return f"{parts.scheme}://{parts.netloc}{folder}{door}"


def _require_key(api_key: str, url: str) -> None:
    """Refuse a key that no header can carry, and one that would cross the open network in the clear."""
    if not api_key or not all("!" <= letter <= "~" for letter in api_key):
        raise BadName("The api_key is empty or holds spaces, line breaks or letters beyond ASCII. Strip it.")
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_near(parts.hostname or ""):
        raise BadName(f"{_host(url)!r} would get the api_key in the clear. Use https://, or no key.")


def _is_near(host: str) -> bool:
    """Whether a host is this machine or on a private network, as far as its name tells."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))
    return address.is_loopback or address.is_private


def _host(url: str | None) -> str:
    """Return scheme and host of an address, without what else it may carry."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return "no host"
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "no host"
