"""A real HTTP server on this machine that acts as vLLM does towards its clients, without a model.

It speaks the form of OpenAI's chat API, whole and streamed, and keeps a prefix cache as vLLM describes
it: blocks of tokens under chained hashes, the salt in the first. Only its tokens and answers are made up.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.models.serving import Request

_TOKEN = re.compile(r"<\|\w+\|>|\w{1,6}|\s|[^\w\s]")
_BLOCK_TOKENS = 16  # vLLM's own default


class PrefixCache:
    """What a server has read: whole blocks, each found by what stands in it and in front of it."""

    def __init__(self) -> None:
        self._blocks: set[bytes] = set()

    def read(self, text: str, salt: str | None) -> tuple[int, int]:
        """Read a prompt; return its tokens, and how many of them need not be computed.

        The last token is computed in any case: the answer begins with what it yields.
        """
        hashes = self._chain(text, salt)
        known = next((at for at, each in enumerate(hashes) if each not in self._blocks), len(hashes))
        self._blocks.update(hashes)
        tokens = len(_TOKEN.findall(text))
        return tokens, min(known, (tokens - 1) // _BLOCK_TOKENS) * _BLOCK_TOKENS

    def _chain(self, text: str, salt: str | None) -> list[bytes]:
        tokens, parent, hashes = _TOKEN.findall(text), repr(salt).encode(), []
        for start in range(0, len(tokens) - _BLOCK_TOKENS + 1, _BLOCK_TOKENS):
            block = "\0".join(tokens[start : start + _BLOCK_TOKENS])
            parent = hashlib.sha256(parent + block.encode("utf-8", "surrogatepass")).digest()
            hashes.append(parent)
        return hashes


class ChunkCache:
    """What LMCache has read when it blends within vLLM: chunks between separators, wherever they stand.

    As its release 0.5.6 does it: a prompt's chunks are loaded up to the first that is not known.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._chunks: set[str] = set()

    def read(self, text: str) -> tuple[int, int]:
        """Read a prompt; return its chunks, and how many of them are loaded."""
        chunks = text.split(self._separator)
        known = next((at for at, each in enumerate(chunks) if each not in self._chunks), len(chunks))
        self._chunks.update(chunks)
        return len(chunks), known


def rendered(messages: Iterable[Mapping[str, str]]) -> str:
    """The messages in ChatML, up to where the answer begins."""
    turns = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    return f"{turns}<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as bytes, whatever was asked."""

    pieces: Sequence[bytes | float]
    """A number is a wait in seconds."""
    status: int = 200
    cut: bool = False
    """The connection ends in the middle of the answer."""
    kind: str = "text/event-stream"


def event(value: object) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def piece(text: object, finish: object = None) -> bytes:
    """An event with a piece of an answer."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class LlmServer:
    """A server that runs: what it was asked, and how it answers."""

    url: str
    answer: Callable[[str], str]
    """From the prompt to what the model says."""
    tells: bool
    """Whether usage says how much of a prompt was cached."""
    raw: list[Raw] = field(default_factory=list)
    """Answers to come before the model gets to say anything."""
    requests: list[Request] = field(default_factory=list)
    cache: PrefixCache = field(default_factory=PrefixCache)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client went in the middle of an answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def messages(self) -> list[list[dict[str, str]]]:
        """What was sent, request by request."""
        return [json.loads(request.body)["messages"] for request in self.requests]

    @property
    def prompts(self) -> list[str]:
        """What the model was to read, request by request."""
        return [rendered(messages) for messages in self.messages]

    def says(self, fields: dict[str, Any]) -> Raw:
        """Answer one request as the model would."""
        prompt, salt = rendered(fields["messages"]), fields.get("cache_salt")
        tokens = _TOKEN.findall(self.answer(prompt))
        text, finish = "".join(tokens[: fields["max_tokens"]]), "length"
        if len(tokens) <= fields["max_tokens"]:
            finish = "stop"
        for stop in fields.get("stop", []):
            text, finish = (text.partition(stop)[0], "stop") if stop in text else (text, finish)
        with self.lock:
            read, cached = self.cache.read(prompt, salt)
            self.cache.read(prompt + text, salt)  # an answer's keys and values are kept as well
        details = {"prompt_tokens_details": {"cached_tokens": cached}} if self.tells else {}
        said = len(_TOKEN.findall(text))
        usage = {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said, **details}
        if not fields.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return Raw([json.dumps({"choices": [choice], "usage": usage}).encode()], kind="application/json")
        words = [piece(word) for word in _TOKEN.findall(text)]
        told = [event({"choices": [], "usage": usage})] if fields.get("stream_options") else []
        return Raw([piece(""), *words, piece(None, finish), *told, DONE])


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def llm_server(
    *raw: Raw, answer: Callable[[str], str] = lambda _: "On the sofa.", tells: bool = True
) -> Iterator[LlmServer]:
    """Serve on a free port: first what is `raw`, then answers."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.path, self.headers["Authorization"], body)
            with llm.lock:
                llm.requests.append(request)
                reply = llm.raw.pop(0) if llm.raw else None
            reply = reply or llm.says(request.fields)
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for each in reply.pieces:
                    if isinstance(each, bytes) and each:  # an empty chunk would be the last
                        self.wfile.write(f"{len(each):x}\r\n".encode() + each + b"\r\n")
                    elif isinstance(each, float):
                        ended.wait(each)
                if not reply.cut:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                llm.left.set()
                reply = Raw([], cut=True)
            self.close_connection = reply.cut

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    llm = LlmServer(f"http://127.0.0.1:{server.server_port}", answer, tells, list(raw))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield llm
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
