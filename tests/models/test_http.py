"""Models behind HTTP, against a real server: what is sent, what is tried again, and what errors tell."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from memos_engine.errors import (
    BadInput,
    BadLimit,
    BadName,
    BadText,
    MemosError,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
)
from memos_engine.models import http_door
from memos_engine.models.http import HttpChatModel, HttpReranker
from memos_engine.ports import ChatMessage, ChatModel, Reranker
from memos_engine.testing.rerankers import RerankerTests
from tests.models.serving import Reply, Script, served

KEY = "sk-secret/0123456789"
ASKED = [ChatMessage("system", "Be short."), ChatMessage("user", "Where is the \N{CAT}\ud800?")]


def said(content: object) -> Reply:
    """The reply of an OpenAI-compatible server."""
    return Reply({"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})


def ranked(*scores: float) -> Reply:
    """The reply of a reranking server: best first."""
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return Reply({"results": sorted(results, key=lambda result: -result["relevance_score"])})


def chat(script: Script, *, timeout_s: float = 5, retries: int = 2) -> HttpChatModel:
    """A chat model that talks to the script, with a key."""
    return HttpChatModel(script.url, "tiny", api_key=KEY, timeout_s=timeout_s, retries=retries)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between tries."""
    monkeypatch.setattr(http_door, "_BACKOFF_S", 0.02)


def failure(model: HttpChatModel) -> MemosError:
    """The error of a call, once seen to tell neither the key nor the prompt."""
    with pytest.raises(MemosError) as caught:
        model.complete(ASKED)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert KEY not in str(chain)
        assert KEY not in repr(chain)
        assert "Be short" not in str(chain)
        chain = chain.__cause__ or chain.__context__
    return caught.value


# HttpChatModel: what goes out and what comes back ---------------------------------------------------


def test_a_chat_model_answers() -> None:
    """The request is the common form, the key a bearer token, the answer the first choice's text."""
    with served(said("On the sofa \N{CAT}.")) as script:
        model = chat(script)
        assert isinstance(model, ChatModel)
        assert model.complete(ASKED, max_tokens=7, temperature=0.5) == "On the sofa \N{CAT}."
        model.close()
        (request,) = script.requests
    assert (request.path, request.key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert request.fields == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Where is the \N{CAT}??"},
        ],
        "max_tokens": 7,
        "temperature": 0.5,
    }


def test_without_a_key_none_is_sent() -> None:
    """No key, no header; a closed model opens itself again."""
    with served(said(""), said("b")) as script:
        model = HttpChatModel(script.url, "tiny")
        assert model.complete(ASKED) == ""
        model.close()
        model.close()
        assert model.complete(ASKED) == "b"
        model.close()
        assert [request.key for request in script.requests] == [None, None]


def test_threads_share_one_model() -> None:
    """Calls of several threads do not meet."""
    with served(said("a")) as script:
        model = chat(script)
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda _: model.complete(ASKED), range(20))) == ["a"] * 20
        model.close()
        assert len(script.requests) == 20


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy or a key of the environment changes nothing."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    with served(said("a")) as script:
        model = HttpChatModel(script.url, "tiny", retries=0)
        assert model.complete(ASKED) == "a"
        model.close()
        assert script.requests[0].key is None


# HttpChatModel: refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cure"),
    [(400, "Change what"), (401, "api_key"), (403, "api_key"), (404, "model"), (413, "less")],
)
def test_a_refusal_is_told_at_once(status: int, cure: str) -> None:
    """A 4xx is not tried again; the error tells what the server said, short, and without the key."""
    with served(Reply({"error": {"message": f"no {KEY}\n\x1b[0m" + "x" * 999}}, status)) as script:
        model = chat(script)
        error = failure(model)
        model.close()
        assert len(script.requests) == 1
    assert isinstance(error, ModelRefused)
    assert isinstance(error, BadInput)
    assert f"({status})" in str(error)
    assert "no ***" in str(error)
    assert "\x1b" not in str(error)
    assert cure in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused(status: int) -> None:
    """The other host hears nothing; the error names it, and nothing else of the address."""
    with served(said("stolen")) as other:
        place = {"Location": f"{other.url}/v1/chat/completions?token=hidden"}
        with served(Reply(status=status, headers=place)) as script:
            model = chat(script)
            error = failure(model)
            model.close()
        assert other.requests == []
    assert isinstance(error, ModelRefused)
    assert "http://127.0.0.1" in str(error)
    assert "hidden" not in str(error)


# HttpChatModel: tries -------------------------------------------------------------------------------


def test_retry_after_is_heeded() -> None:
    """A 429 is tried again when the server says, not earlier."""
    with served(Reply(status=429, headers={"Retry-After": "0.8"}), said("a")) as script:
        model = chat(script, retries=1)
        start = time.monotonic()
        assert model.complete(ASKED) == "a"
        assert time.monotonic() - start >= 0.8
        model.close()
        assert script.requests[0] == script.requests[1]


def test_a_long_wait_is_not_waited() -> None:
    """When the server asks for an hour, the caller hears of it at once."""
    with served(Reply({"error": "quota"}, 429, {"Retry-After": "3600"})) as script:
        model = chat(script)
        error = failure(model)
        model.close()
        assert len(script.requests) == 1
    assert isinstance(error, ModelUnavailable)
    assert "429, and asks to wait 3600 s; tried once" in str(error)
    assert "quota" in str(error)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """A busy or failing server gets another try."""
    with served(Reply(b"<html>oops</html>", status), said("a")) as script:
        model = chat(script)
        assert model.complete(ASKED) == "a"
        model.close()
        assert len(script.requests) == 2


@pytest.mark.usefixtures("quick")
def test_a_server_that_keeps_failing_is_unavailable() -> None:
    """After the last try the error tells the status, the answer and how often it was tried."""
    with served(Reply(f"<h1>down</h1> {KEY}".encode(), 500)) as script:
        model = chat(script)
        error = failure(model)
        model.close()
        assert len(script.requests) == 3
    assert isinstance(error, ModelUnavailable)
    assert "500; tried 3 times" in str(error)
    assert "<h1>down</h1> ***" in str(error)


@pytest.mark.usefixtures("quick")
def test_nobody_there_is_unavailable() -> None:
    """A refused connection is tried again, then told with the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        model = HttpChatModel(url, "tiny", api_key=KEY, retries=1)
        error = failure(model)
        model.close()
    assert isinstance(error, ModelUnavailable)
    assert url in str(error)
    assert "ConnectError" in str(error)
    assert "tried 2 times" in str(error)
    assert error.__cause__ is not None


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("slow", [Reply(wait_s=9), Reply(b" " * 99, drip_s=0.1)], ids=["silent", "drips"])
def test_a_slow_server_is_unavailable(slow: Reply) -> None:
    """A try ends at `timeout_s`, also when the answer comes byte by byte; the next one may do."""
    with served(slow) as script:
        model = chat(script, timeout_s=0.3, retries=0)
        start = time.monotonic()
        error = failure(model)
        assert time.monotonic() - start < 2
        model.close()
    assert isinstance(error, ModelUnavailable)
    assert "Time" in str(error)
    with served(slow, said("a")) as script:
        model = chat(script, timeout_s=0.3)
        assert model.complete(ASKED) == "a"
        model.close()


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [
        (None, 2.0),
        ("", 2.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("inf", math.inf),
        ("0", 2.0),
        ("-3", 2.0),
        ("nan", 2.0),
        ("soon", 2.0),
        (format_datetime(datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC), usegmt=True), 9.0),
        ("Thu, 01 Jan 2026 00:00:09 -0000", 9.0),
        (format_datetime(datetime(2025, 1, 1, tzinfo=UTC)), 2.0),
    ],
)
def test_how_long_to_wait(asked: str | None, wait_s: float) -> None:
    """Seconds and dates of `Retry-After` count; without any that lies ahead, the wait doubles."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert http_door._wait_s(2, http_door._Answer(429, asked, None, b""), now) == wait_s
    assert http_door._wait_s(0, TimeoutError(), now + timedelta(1)) == 0.5


# HttpChatModel: answers that are none ---------------------------------------------------------------


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000])
def test_garbage_is_no_answer(body: bytes) -> None:
    """What is no JSON fails at once, with its beginning."""
    with served(Reply(body)) as script:
        model = chat(script)
        error = failure(model)
        model.close()
        assert len(script.requests) == 1
    assert isinstance(error, ModelFailed)
    assert "without JSON" in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "body",
    [[], {}, None, 3, {"choices": []}, {"choices": {}}, {"choices": [{}]}, {"choices": [{"message": "a"}]},
     {"choices": [{"message": {"content": None}}]}, {"choices": [{"message": {"content": ["a"]}}]}],
)  # fmt: skip
def test_another_shape_is_no_answer(body: object) -> None:
    """JSON without the text of a first choice fails."""
    with served(Reply(body)) as script:
        model = chat(script)
        error = failure(model)
        model.close()
    assert isinstance(error, ModelFailed)
    assert "choices[0].message.content" in str(error)


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is read of an answer than any such answer has."""
    monkeypatch.setattr(http_door, "_ANSWER_BYTES_MAX", 1 << 20)
    with served(Reply(b" " * (2 << 20))) as script:
        model = chat(script)
        assert isinstance(failure(model), ModelFailed)
        model.close()


# what cannot be a server, a model or a key ----------------------------------------------------------


@pytest.mark.parametrize(
    "base_url",
    ["", "localhost:8000", "ftp://a", "http://", "http://[", "http://a:99999", "http://a b", " http://a",
     "http://a?key=hidden", "http://a#hidden", "http://u:hidden@a", "http://u:hidden@["],
)  # fmt: skip
def test_a_bad_address_is_refused(base_url: str) -> None:
    """What is no plain http address is refused on construction, and a secret in it is not repeated."""
    for made in (HttpChatModel, HttpReranker):
        with pytest.raises(BadName, match="base_url") as caught:
            made(base_url, "m")
        assert "hidden" not in str(caught.value)


def test_a_host_that_cannot_be_is_refused_on_use() -> None:
    """What only httpx finds fault with is told as ours."""
    with pytest.raises(BadName, match="http://xn--"):
        HttpChatModel("http://xn--a", "m", retries=0).complete(ASKED)


@pytest.mark.parametrize(
    ("base_url", "chat_url", "rerank_url"),
    [
        ("http://a", "http://a/v1/chat/completions", "http://a/rerank"),
        ("http://a/", "http://a/v1/chat/completions", "http://a/rerank"),
        ("https://a:1/v1", "https://a:1/v1/chat/completions", "https://a:1/v1/rerank"),
        ("https://a/x/v4/", "https://a/x/v4/chat/completions", "https://a/x/v4/rerank"),
        ("http://[::1]:1", "http://[::1]:1/v1/chat/completions", "http://[::1]:1/rerank"),
    ],
)
def test_addresses(base_url: str, chat_url: str, rerank_url: str) -> None:
    """A bare host gets the usual path, a path only its end; a whole address stays. `repr` shows it."""
    assert repr(HttpChatModel(base_url, "m", api_key=None)) == f"HttpChatModel({chat_url!r}, 'm')"
    assert repr(HttpReranker(base_url, "m", api_key=None)) == f"HttpReranker({rerank_url!r}, 'm')"
    assert chat_url in repr(HttpChatModel(chat_url, "m"))
    assert repr(HttpReranker(rerank_url, "m")) == f"HttpReranker({rerank_url!r}, 'm')"


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel"])
def test_a_bad_key_is_refused(key: str) -> None:
    """A key that no header carries is refused without being shown."""
    with pytest.raises(BadName, match="api_key") as caught:
        HttpChatModel("https://a.example", "m", api_key=key)
    assert len(key) < 3 or key not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "taken"),
    [
        ("https://api.example.com", True),
        ("http://localhost:1", True),
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://10.1.2.3", True),
        ("http://vllm:8000", True),
        ("http://gpu.local", True),
        ("http://api.example.com", False),
        ("http://8.8.8.8", False),
    ],
)
def test_a_key_does_not_cross_the_open_network_in_the_clear(base_url: str, taken: bool) -> None:
    """Plain http with a key is for near hosts; without a key for all."""
    HttpChatModel(base_url, "m")
    if taken:
        assert KEY not in repr(HttpChatModel(base_url, "m", api_key=KEY))
    else:
        with pytest.raises(BadName, match="https"):
            HttpChatModel(base_url, "m", api_key=KEY)


def test_absurd_limits_are_refused() -> None:
    """Time-outs, tries, sizes and temperatures are checked before anything is sent."""
    for timeout_s in (0.0, math.inf, math.nan):
        with pytest.raises(BadLimit, match="timeout_s"):
            HttpChatModel("http://a", "m", timeout_s=timeout_s)
    for retries in (-1, 11):
        with pytest.raises(BadLimit, match="retries"):
            HttpReranker("http://a", "m", retries=retries)
    with pytest.raises(BadLimit, match="batch_size"):
        HttpReranker("http://a", "m", batch_size=0)
    with pytest.raises(BadName, match="model"):
        HttpReranker("http://a", " ")
    with pytest.raises(BadName, match="texts_field"):
        HttpReranker("http://a", "m", texts_field="passages")  # type: ignore[arg-type]  # -- as untyped code does
    model = HttpChatModel("http://a", "m")
    for max_tokens, temperature in ((0, 0.0), (1, -0.1), (1, math.nan), (1, 2.1)):
        with pytest.raises(BadLimit, match="max_tokens"):
            model.complete(ASKED, max_tokens=max_tokens, temperature=temperature)
    with pytest.raises(BadText, match="message"):
        model.complete([])


# HttpReranker ---------------------------------------------------------------------------------------


def test_a_reranker_scores_in_the_order_of_the_texts() -> None:
    """The server answers best first; the scores come back in the order that was asked."""
    with served(ranked(0.1, 0.9, 0.5)) as script:
        reranker = HttpReranker(script.url, "rr", api_key=KEY)
        assert isinstance(reranker, Reranker)
        scores = reranker.scores("q\ud800", ("a", "b", "\N{CAT}"))
        assert KEY not in repr(reranker) + reranker.fingerprint
        reranker.close()
        (request,) = script.requests
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [0.1, 0.9, 0.5], rtol=1e-6)
    assert (request.path, request.key) == ("/rerank", f"Bearer {KEY}")
    assert request.fields == {"model": "rr", "query": "q?", "documents": ["a", "b", "\N{CAT}"], "top_n": 3}


def test_the_form_of_tei() -> None:
    """Its requests say `texts`, its answers are a bare list with `score`."""
    with served(Reply([{"index": 1, "score": 3}, {"index": 0, "score": -1.5, "text": None}])) as script:
        reranker = HttpReranker(script.url, "rr", texts_field="texts")
        np.testing.assert_array_equal(reranker.scores("q", ["a", "b"]), [-1.5, 3])
        reranker.close()
        assert script.requests[0].fields == {
            "model": "rr", "query": "q", "texts": ["a", "b"], "truncate": True
        }  # fmt: skip


def test_texts_go_in_batches() -> None:
    """More texts than one request takes are several; none are no request."""
    with served(ranked(1, 2), ranked(3, 4), ranked(5)) as script:
        reranker = HttpReranker(script.url, "rr", batch_size=2)
        np.testing.assert_array_equal(reranker.scores("q", "abcde"), [1, 2, 3, 4, 5])
        assert reranker.scores("q", []).shape == (0,)
        reranker.close()
        assert [request.fields["documents"] for request in script.requests] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        3,
        {"results": None},
        {"results": []},
        {"results": ["a", "b"]},
        {"results": [{"index": 0}, {"index": 1}]},
        {"results": [{"relevance_score": 1.0}, {"relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}] * 2},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 2, "relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": [], "relevance_score": 1.0}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": "1"}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": math.nan}]},
        {"results": [{"index": 0, "relevance_score": 1.0}, {"index": 1, "relevance_score": 10**300}]},
        {"results": [{"index": n, "relevance_score": 1.0} for n in range(3)]},
    ],
)
def test_scores_that_are_none(body: object) -> None:
    """Every text has one finite score, or there is no answer."""
    with served(Reply(body)) as script:
        reranker = HttpReranker(script.url, "rr")
        with pytest.raises(ModelFailed):
            reranker.scores("q", ["a", "b"])
        reranker.close()


def test_a_reranker_that_is_refused() -> None:
    """Errors are those of the chat model, and quote no text of the request."""
    with served(Reply({"message": "invalid api token"}, 401)) as script:
        reranker = HttpReranker(script.url, "rr", api_key=KEY)
        with pytest.raises(ModelRefused, match="invalid api token") as caught:
            reranker.scores("my query", ["my text"])
        reranker.close()
    assert "my " not in str(caught.value)
    assert KEY not in str(caught.value)


class TestHttp(RerankerTests):
    """The shipped suite, over a server that keeps it."""

    @pytest.fixture
    def reranker(self) -> Iterator[Reranker]:
        """A reranker whose server scores by shared words."""
        with served(Reply(shared_words)) as script:
            reranker = HttpReranker(script.url, "rr", batch_size=3)
            yield reranker
            reranker.close()


def shared_words(fields: dict[str, object]) -> object:
    """Answer a request as a server would that counts shared words."""
    query, documents = str(fields["query"]), fields["documents"]
    assert isinstance(documents, list)
    words = set(query.split())
    results = [
        {"index": index, "relevance_score": len(words & set(str(document).split())) / (1 + len(words))}
        for index, document in enumerate(documents)
    ]
    return {"results": results[::-1]}


# laziness -------------------------------------------------------------------------------------------


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


def test_httpx_loads_on_the_first_call() -> None:
    """Importing every public name and making a model load no httpx; without it, pip's command is told."""
    code = """
import sys
from memos_engine import *
model = HttpChatModel("http://localhost:9", "m")
print("httpx" in sys.modules, end=" ")
sys.modules["httpx"] = None
try:
    model.complete([ChatMessage("user", "a")])
except ModelUnavailable as error:
    print(error)
"""
    printed = run_python(code)
    assert printed.startswith("False ")
    assert "pip install 'memos-adapters[http]'" in printed
