"""The one door to HTTP: an address that takes JSON by POST, and answers JSON or a stream of events.

What is sent is what it was handed, and nothing else of a store. No environment variable is read: no
proxy, no key. A redirect is never followed, so a key stays with the host it was given for. Neither the
key nor what was sent stands in an error, a log or a `repr`; an error quotes the server's answer in a
short piece, the key taken out. httpx is imported on first use only. What is asked, and what an answer
means, is told by the models above it: `models.http` and `models.served`.
"""

from __future__ import annotations

import ipaddress
import json
import math
import threading
import time
import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from memos_engine.errors import BadLimit, BadName, ModelFailed, ModelRefused, ModelUnavailable
from memos_engine.models.events import EventReader

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpModel", "Server", "door_url"]

_BACKOFF_S = 0.5  # before the second try; it doubles from try to try
_WAIT_MAX_S = 60.0
_ANSWER_BYTES_MAX = 16 << 20  # of an answer, or of one event
_STREAM_BYTES_MAX = 256 << 20  # an event of one token takes some 300 bytes
_QUOTED_CHARS_MAX = 200
_DONE = b"[DONE]"
_EVENTS = {"Accept": "text/event-stream"}
_TRY_AGAIN = frozenset({408, 425, 429})  # what another try may cure, besides 5xx
_INSTALL = "HTTP needs httpx, which is not installed ({exc}). Type: pip install 'memos-adapters[http]'."
_CURES = {
    401: "Check api_key",
    403: "Check api_key and what it may use",
    404: "Check base_url and the model's name",
    413: "Send less at once: a smaller batch_size, or shorter texts",
}


class HttpModel:
    """What models behind HTTP have: a name, and the door of a server."""

    def __init__(self, url: str, model: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        if not model.strip():
            raise BadName(f"{model!r} is no model's name: ask the server for its models.")
        self._model = model
        self._server = Server(url, api_key, timeout_s, retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.url!r}, {self._model!r})"

    @property
    def name(self) -> str:
        """The model's name at its server."""
        return self._model

    def close(self) -> None:
        """Let the connections go, when no call is under way; the next call opens new ones."""
        self._server.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a server said: a status, what it said about waiting, where it points to, and the body."""

    status: int
    retry_after: str | None
    location: str | None
    body: bytes


class Server:
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
        body = _encoded(request)
        for attempt in count():
            answer = self._tried(body)
            if isinstance(answer, _Answer) and 200 <= answer.status < 300:
                return self._parsed(answer.body)
            self._wait(answer, attempt)
        raise AssertionError("the last try returns or raises")

    def events(self, request: Mapping[str, Any]) -> Generator[object, None, None]:
        """Yield the JSON of each event of the server's answer to `request`, until it ends or says `[DONE]`.

        It is tried again only as long as nothing came. `timeout_s` is the longest wait for an event, the
        first one or the next. A caller that leaves early closes the connection, which ends the work there.

        Raises:
            ModelRefused, ModelUnavailable: as of `asked`, before the first event.
            ModelFailed: what came is no such stream, or it was cut; what was yielded before stays heard.
        """
        body = _encoded(request)
        for attempt in count():
            answer = yield from self._heard(body)
            if answer is None:
                return
            self._wait(answer, attempt)

    def malformed(self, expected: str, body: bytes | None = None) -> ModelFailed:
        """Return the error for an answer that lacks what was `expected`."""
        said = "" if body is None else f" It said {self._quoted(body)!r}."
        return ModelFailed(
            f"The server at {self.url!r} answered without {expected}.{said} Check that base_url is the "
            "address of such a server, and the model's name."
        )

    def broken(self, how: str, body: bytes | None = None) -> ModelFailed:
        """Return the error for an answer that began and did not end as it should."""
        said = "" if body is None else f" It said {self._quoted(body)!r}."
        return ModelFailed(
            f"The server at {self.url!r} broke off its answer: {how}.{said} What came before was handed on; "
            f"ask again, or raise timeout_s ({self._timeout_s:g})."
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
        """Send `body` once. A failure on the way is returned, for `_wait` to decide on."""
        client = self._opened()
        import httpx  # noqa: PLC0415 -- loaded by `_opened`

        try:
            with client.stream("POST", self.url, content=body) as response:
                return self._read(response)
        except (httpx.InvalidURL, UnicodeError) as exc:  # the latter is idna's
            raise BadName(f"{self.url!r} is no address: {exc}. Write http://host:port.") from exc
        except (httpx.RequestError, TimeoutError) as exc:
            return exc

    def _heard(self, body: bytes) -> Generator[object, None, _Answer | Exception | None]:
        """Send `body` once and yield what comes. None: the stream ended; else, as of `_tried`, nothing came."""
        client = self._opened()
        import httpx  # noqa: PLC0415 -- loaded by `_opened`

        events = 0
        try:
            with client.stream("POST", self.url, content=body, headers=_EVENTS) as response:
                if not 200 <= response.status_code < 300:
                    return self._read(response)
                for data in self._event_data(response):
                    events += 1
                    yield self._parsed(data)
                return None
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise BadName(f"{self.url!r} is no address: {exc}. Write http://host:port.") from exc
        except (httpx.RequestError, TimeoutError) as exc:
            if events:
                why = f"{type(exc).__name__}: {self._redacted(str(exc))}, after {events} events"
                raise self.broken(why) from exc
            return exc

    def _event_data(self, response: httpx.Response) -> Generator[bytes, None, None]:
        """Yield the data of each event, until `[DONE]`; at least one."""
        reader, read, first, events = EventReader(), 0, b"", 0
        until = time.monotonic() + self._timeout_s
        for piece in response.iter_bytes():
            first = first or piece
            read += len(piece)
            for data in reader.fed(piece):
                if data == _DONE:
                    return
                events += 1
                yield data
                until = time.monotonic() + self._timeout_s  # the listener's own time does not count
            if read > _STREAM_BYTES_MAX or reader.held_bytes > _ANSWER_BYTES_MAX:
                raise self.malformed(f"an end within {_STREAM_BYTES_MAX >> 20} MiB")
            if time.monotonic() > until:
                raise TimeoutError(f"no event within {self._timeout_s:g} s")
        for data in reader.ended():
            if data != _DONE:
                events += 1
                yield data
        if not events:
            raise self.malformed("a stream of events", first)

    def _read(self, response: httpx.Response) -> _Answer:
        """Read a whole answer, as long as such an answer may be and take."""
        until, read = time.monotonic() + self._timeout_s, bytearray()
        for piece in response.iter_bytes():
            read += piece
            if len(read) > _ANSWER_BYTES_MAX:
                raise self.malformed(f"an end within {_ANSWER_BYTES_MAX >> 20} MiB")
            if time.monotonic() > until:  # httpx's own time-out begins anew with every piece
                raise TimeoutError(f"no end of the answer within {self._timeout_s:g} s")
        wait, place = (response.headers.get(name) for name in ("retry-after", "location"))
        return _Answer(response.status_code, wait, place, bytes(read))

    def _wait(self, answer: _Answer | Exception, attempt: int) -> None:
        """Wait before the next try, where one may do; else raise what the last one met."""
        if isinstance(answer, _Answer) and answer.status < 500 and answer.status not in _TRY_AGAIN:
            raise self._refused(answer)
        wait_s = _wait_s(attempt, answer, datetime.now(UTC))
        if attempt >= self._retries or wait_s > _WAIT_MAX_S:
            raise self._unavailable(answer, attempt + 1, wait_s)
        time.sleep(wait_s)

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


def _encoded(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


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


def door_url(base_url: str, *, bare: str, path: str) -> str:
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
