"""A real HTTP server on this machine that answers by a script, for tests of what speaks HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server says to one request."""

    body: object = b""
    """Bytes go out as they are, what a function makes of the request's fields and anything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """Before anything is said."""
    drip_s: float = 0.0
    """Between two bytes of the body. 0 sends it at once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the server was asked."""

    path: str
    key: str | None
    """The header Authorization."""
    body: bytes

    @property
    def fields(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(slots=True)
class Script:
    """The replies to come, of which the last one stays, and the requests so far."""

    url: str
    replies: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


@contextmanager
def served(*replies: Reply) -> Iterator[Script]:
    """Serve `replies` in order on a free port, the last one again and again."""
    lock = threading.Lock()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                request = Request(self.path, self.headers["Authorization"], body)
                script.requests.append(request)
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            ended.wait(reply.wait_s)
            value = reply.body(request.fields) if callable(reply.body) else reply.body
            said = value if isinstance(value, bytes) else json.dumps(value).encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                for piece in [said[n : n + 1] for n in range(len(said))] if reply.drip_s else [said]:
                    self.wfile.write(piece)
                    time.sleep(reply.drip_s)
            except OSError:
                self.close_connection = True  # the client has gone, as some tests want

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(f"http://127.0.0.1:{server.server_port}", list(replies))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
