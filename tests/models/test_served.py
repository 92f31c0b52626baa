"""Models of servers that keep their keys and values, against a scripted one: streams, salts, and what breaks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from memos_engine.errors import (
    BadLimit,
    BadName,
    BadText,
    MemosError,
    ModelFailed,
    ModelRefused,
    ModelUnavailable,
)
from memos_engine.models import http_door
from memos_engine.models.served import ServedAnswer, ServedModel, ServedUsage
from memos_engine.ports import ChatMessage, ChatModel
from tests.models.llm_server import DONE, LlmServer, Raw, event, llm_server, piece

KEY = "sk-secret/0123456789"
SECRET = "the deployment's own"
ASKED = [ChatMessage("system", "Be short."), ChatMessage("user", "Where is the \N{CAT}?")]
LONG = [ChatMessage("system", "You know the house well. " * 20), *ASKED[1:]]

PINGS: list[bytes | float] = [b": ping\n\n", 0.2] * 9
FLOOD: list[bytes | float] = [piece("b" * 4000), 0.01] * 2000


def model_of(llm: LlmServer, **options: Any) -> ServedModel:
    """A model that talks to the server, with a key and a secret."""
    return ServedModel(llm.url, "tiny", **{"api_key": KEY, "salt": SECRET, "timeout_s": 5, **options})


def heard(pieces: Generator[str, None, ServedAnswer]) -> tuple[list[str], ServedAnswer]:
    """Every piece, and the value at the end."""
    texts = []
    while True:
        try:
            texts.append(next(pieces))
        except StopIteration as end:
            return texts, end.value


def failure(pieces: Generator[str, None, ServedAnswer]) -> tuple[list[str], MemosError]:
    """What came before the error, and the error, once seen to tell no key, no secret and no prompt."""
    texts: list[str] = []
    with pytest.raises(MemosError) as caught:
        texts.extend(pieces)
    chain: BaseException | None = caught.value
    while chain is not None:
        for hidden in (KEY, SECRET, "Be short"):
            assert hidden not in f"{chain} {chain!r}"
        chain = chain.__cause__ or chain.__context__
    return texts, caught.value


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between tries."""
    monkeypatch.setattr(http_door, "_BACKOFF_S", 0.02)


# what goes out and what comes back ------------------------------------------------------------------


def test_an_answer_comes_in_pieces() -> None:
    """Each piece is yielded as it came; the end tells the whole text, why it ended and what was counted."""
    with llm_server(answer=lambda _: "On the sofa, \N{CAT}.") as llm:
        model = model_of(llm)
        texts, answer = heard(model.say(ASKED, salt="a", max_tokens=40, temperature=0.5, seed=7, stop=["!"]))
        model.close()
    assert texts == ["On", " ", "the", " ", "sofa", ",", " ", "\N{CAT}", "."]
    assert (answer.text, answer.finish) == ("On the sofa, \N{CAT}.", "stop")
    assert answer.usage == ServedUsage(prompt_tokens=26, cached_tokens=0, completion_tokens=9)
    (request,) = llm.requests
    assert (request.path, request.key) == ("/v1/chat/completions", f"Bearer {KEY}")
    fields = request.fields
    assert len(str(fields.pop("cache_salt"))) == 64
    assert fields == {
        "model": "tiny",
        "messages": [{"role": each.role, "content": each.content} for each in ASKED],
        "max_tokens": 40,
        "temperature": 0.5,
        "top_p": 1.0,
        "stop": ["!"],
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_was_not_asked_is_not_sent() -> None:
    """No stop, no seed and no top_k leave those fields out, for servers that take no null."""
    with llm_server() as llm:
        model = model_of(llm)
        heard(model.say(ASKED))
        heard(model.say(ASKED, top_k=5))
        model.close()
    plain, drawn = (request.fields for request in llm.requests)
    assert plain.keys().isdisjoint({"stop", "seed", "top_k"})
    assert drawn["top_k"] == 5


def test_limits_end_an_answer() -> None:
    """The server's reason is handed on."""
    with llm_server() as llm:
        model = model_of(llm)
        assert heard(model.say(ASKED, max_tokens=3))[1].finish == "length"
        assert heard(model.say(ASKED, max_tokens=3))[1].text == "On the"
        assert heard(model.say(ASKED, stop=[" sofa"]))[1].text == "On the"
        model.close()


def test_it_completes_as_any_chat_model() -> None:
    """Without a stream it is a ChatModel, under a salt too."""
    with llm_server() as llm:
        model = model_of(llm)
        assert isinstance(model, ChatModel)
        assert model.complete(ASKED, max_tokens=7) == "On the sofa."
        model.close()
    assert "stream" not in llm.requests[0].fields
    assert "cache_salt" in llm.requests[0].fields


def test_threads_share_one_model() -> None:
    """Streams of several threads do not meet."""
    with llm_server(answer=lambda prompt: prompt.partition("user\n")[2].partition("<")[0]) as llm:
        model = model_of(llm)

        def say(number: int) -> str:
            return heard(model.say([ChatMessage("user", f"number {number} " * 9)]))[1].text

        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(say, range(24))) == [f"number {number} " * 9 for number in range(24)]
        model.close()


# whose cache ----------------------------------------------------------------------------------------


def salts(llm: LlmServer) -> list[object]:
    """The salts that were sent."""
    return [request.fields.get("cache_salt") for request in llm.requests]


def test_a_salt_is_a_keyed_hash() -> None:
    """One asker has one salt, another asker or deployment has another, and no name can be read in it."""
    with llm_server() as llm:
        for secret, asker in (
            ("s", "alice"),
            ("s", "alice"),
            ("s", "bob"),
            ("t", "alice"),
            ("", "alice"),
            ("s", ""),
        ):
            heard(model_of(llm, salt=secret).say(ASKED, salt=asker))
    first, again, *others = salts(llm)
    assert first == again
    assert len({first, *others}) == 5
    assert all(len(str(salt)) == 64 and "alice" not in str(salt) for salt in salts(llm))


def test_two_askers_never_share() -> None:
    """Equal prompts of two askers are read twice; one asker's second prompt is found."""
    with llm_server() as llm:
        model = model_of(llm)
        cached = [heard(model.say(LONG, salt=asker))[1].usage.cached_tokens for asker in "abab"]
        alone = model.warm(LONG)
        model.close()
    assert cached[:2] == [0, 0]
    assert cached[2] == cached[3]
    assert cached[2] is not None
    assert cached[2] > 90
    assert alone.cached_tokens == 0


def test_openai_takes_no_salt() -> None:
    """Its form has no such field: none is sent, what is shared is the server's to say, and the model tells so."""
    with llm_server() as llm:
        model = model_of(llm, engine="openai")
        heard(model.say(LONG, salt="a"))
        assert heard(model.say(LONG, salt="b"))[1].usage.cached_tokens
        model.close()
    assert salts(llm) == [None, None]
    assert not model.isolates
    assert model_of(llm).isolates


def test_lmcache_takes_a_tag_too() -> None:
    """LMCache inside vLLM tells entries apart by tags alone; blending there knows none, so it is sent none."""
    with llm_server() as llm:
        heard(model_of(llm, engine="lmcache").say(ASKED, salt="a"))
        heard(model_of(llm, engine="lmcache", separator=" # # ").say(ASKED, salt="a"))
        heard(model_of(llm, engine="sglang").say(ASKED, salt="a"))
    tagged, blended, plain = (request.fields for request in llm.requests)
    assert tagged["kv_transfer_params"] == {"lmcache.tag.salt": tagged["cache_salt"]}
    assert "kv_transfer_params" not in blended
    assert "kv_transfer_params" not in plain
    assert len(set(salts(llm))) == 1
    assert model_of(llm, engine="lmcache").isolates
    assert not model_of(llm, engine="lmcache", separator=" # # ").isolates


def test_warming_reads_ahead() -> None:
    """One token is asked for; what a prompt shares with the warmed one is not read again, by that asker."""
    with llm_server() as llm:
        model = model_of(llm)
        warmed = model.warm(LONG[:1], salt="a")
        later = heard(model.say(LONG, salt="a"))[1].usage
        other = heard(model.say(LONG, salt="b"))[1].usage
        model.close()
    assert llm.requests[0].fields["max_tokens"] == 1
    assert (warmed.cached_tokens, warmed.completion_tokens) == (0, 1)
    assert warmed.prompt_tokens is not None
    assert later.cached_tokens is not None
    assert warmed.prompt_tokens - 32 <= later.cached_tokens <= warmed.prompt_tokens
    assert other.cached_tokens == 0


def test_a_server_need_not_tell() -> None:
    """Without a count of cached tokens, and without any usage, it is None: not known, not zero."""
    quiet = Raw([piece("a"), piece(None, "stop"), DONE])
    with llm_server(quiet, tells=False) as llm:
        model = model_of(llm)
        assert heard(model.say(ASKED))[1].usage == ServedUsage()
        usage = heard(model.say(ASKED))[1].usage
        assert usage.cached_tokens is None
        assert usage.prompt_tokens
        model.close()


@pytest.mark.parametrize(
    "details", [None, 3, {}, {"cached_tokens": None}, {"cached_tokens": "9"}, {"cached_tokens": True}]
)
def test_odd_usage_is_not_known(details: object) -> None:
    """What is no number of tokens is taken for not told."""
    told = event({"choices": [], "usage": {"prompt_tokens": 5, "prompt_tokens_details": details}})
    with llm_server(Raw([piece("a", "stop"), told, DONE])) as llm:
        model = model_of(llm)
        assert heard(model.say(ASKED))[1].usage == ServedUsage(prompt_tokens=5)
        model.close()


# streams as servers write them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        [piece("a\u2028b"), piece("c", "stop")],
        [b": ping\n\n", piece("a\u2028b"), piece("c"), piece(None, "stop"), DONE, piece("more")],
        [b"event: x\r\n" + piece("a\u2028bc", "stop").replace(b"\n", b"\r\n"), DONE],
        [byte.to_bytes() for byte in piece("a\u2028bc", "stop") + DONE],
        [piece("a\u2028b"), event({"choices": [{"delta": {"reasoning_content": "hm"}}]}), piece("c", "stop"), DONE],
        [event({"choices": [{"delta": {"role": "assistant"}}], "usage": None}), piece("a\u2028bc", "stop"), DONE[:-2]],
    ],
    ids=["no done", "comment", "crlf", "bytes", "thoughts", "no last break"],
)  # fmt: skip
def test_streams_of_many_servers(stream: list[bytes | float]) -> None:
    """Comments, names, line ends, thoughts and a missing end are borne; line breaks of Unicode stay in the text."""
    with llm_server(Raw(stream)) as llm:
        model = model_of(llm, retries=0)
        texts, answer = heard(model.say(ASKED))
        model.close()
    assert "".join(texts) == answer.text == "a\u2028bc"
    assert answer.finish == "stop"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ([b"data: {\n\n"], "without JSON"),
        ([b"data: \xff\xfe\n\n"], "without JSON"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "without JSON"),
        ([b"<html>hello</html>"], "without a stream of events. It said '<html>hello"),
        ([b'{"choices": [{"message": {"content": "a"}}]}'], "without a stream of events"),
        ([b""], "without a stream of events"),
        ([DONE], "without a finish_reason"),
        ([event([])], "choices[0].delta"),
        ([event({"choices": [{}]})], "choices[0].delta"),
        ([event({"choices": [{"delta": None}]})], "choices[0].delta"),
        ([piece(["a"])], "text in choices[0].delta.content"),
        ([piece("b", 3)], "text in choices[0].delta.content"),
    ],
)  # fmt: skip
def test_what_is_no_stream(stream: list[bytes | float], expected: str) -> None:
    """What is no such stream fails at once; the error tells what was missing, short."""
    with llm_server(Raw(stream)) as llm:
        model = model_of(llm)
        texts, error = failure(model.say(ASKED))
        model.close()
        assert len(llm.requests) == 1
    assert isinstance(error, ModelFailed)
    assert expected in str(error)
    assert len(str(error)) < 600
    assert texts == []


# what breaks ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "first",
    [Raw([b"{}"], 503), Raw([b""], 429), Raw([], cut=True), Raw([b"data: {", 0.01], cut=True), Raw([9.0]),
     Raw(PINGS)],
    ids=["failing", "busy", "cut", "cut in an event", "silent", "only comments"],
)  # fmt: skip
def test_before_the_first_piece_it_is_tried_again(first: Raw) -> None:
    """A server that fails, is busy, cuts or keeps silent before anything came gets another try."""
    with llm_server(first) as llm:
        model = model_of(llm, timeout_s=0.5, retries=1)
        assert heard(model.say(ASKED))[1].text == "On the sofa."
        model.close()
        assert len(llm.requests) == 2
        assert llm.requests[0] == llm.requests[1]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault", [Raw([b"down"], 500), Raw([], cut=True), Raw([9.0])], ids=["500", "cut", "silent"]
)
def test_a_server_that_keeps_failing_is_unavailable(fault: Raw) -> None:
    """After the last try the error tells how often it was tried."""
    with llm_server(fault, fault) as llm:
        model = model_of(llm, timeout_s=0.3, retries=1)
        texts, error = failure(model.say(ASKED))
        model.close()
    assert isinstance(error, ModelUnavailable)
    assert "tried 2 times" in str(error)
    assert texts == []


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (Raw([piece("a"), piece("b"), 0.05], cut=True), "after 2 events"),
        (Raw([piece("a"), piece("b"), 9.0]), "Time"),
        (Raw([piece("a"), piece("b"), *PINGS]), "no event within 0.5 s"),
        (Raw([piece("a"), piece("b")]), "without a finish_reason"),
        (
            Raw([piece("a"), piece("b"), event({"error": {"message": f"out of {KEY}", "code": 500}})]),
            "out of ***",
        ),
        (Raw([piece("a"), piece("b"), b"data: oops\n\n"]), "It said 'oops'"),
    ],
    ids=["cut", "silent", "only comments", "no end", "error", "malformed"],
)
def test_a_cut_stream_keeps_what_came(rest: Raw, expected: str) -> None:
    """Pieces that came were yielded; then it fails, and nothing is asked twice."""
    with llm_server(rest) as llm:
        model = model_of(llm, timeout_s=0.5)
        start = time.monotonic()
        texts, error = failure(model.say(ASKED))
        assert time.monotonic() - start < 5
        model.close()
        assert len(llm.requests) == 1
    assert texts == ["a", "b"]
    assert isinstance(error, ModelFailed)
    assert expected in str(error)


def test_a_slow_listener_loses_nothing() -> None:
    """The time that the listener takes between two pieces is not the server's."""
    with llm_server() as llm:
        model = model_of(llm, timeout_s=0.3, retries=0)
        pieces = model.say(ASKED)
        texts = [next(pieces)]
        time.sleep(0.5)
        texts += heard(pieces)[0]
        model.close()
    assert "".join(texts) == "On the sofa."


@pytest.mark.parametrize(("status", "cure"), [(400, "Change what"), (401, "api_key"), (404, "model")])
def test_a_refusal_is_told_at_once(status: int, cure: str) -> None:
    """A 4xx is not tried again, and told with the server's words but for the key."""
    refusal = Raw([json.dumps({"error": {"message": f"no {KEY}"}}).encode()], status, kind="application/json")
    with llm_server(refusal) as llm:
        model = model_of(llm)
        _, error = failure(model.say(ASKED))
        model.close()
        assert len(llm.requests) == 1
    assert isinstance(error, ModelRefused)
    assert f"({status})" in str(error)
    assert "no ***" in str(error)
    assert cure in str(error)


def test_a_redirect_is_refused() -> None:
    """A stream is not fetched from elsewhere."""
    with llm_server(Raw([b""], 308)) as llm:
        model = model_of(llm)
        _, error = failure(model.say(ASKED))
        model.close()
        assert len(llm.requests) == 1
    assert isinstance(error, ModelRefused)
    assert "another address" in str(error)


def test_an_endless_stream_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a stream nor one event of it is read without end."""
    monkeypatch.setattr(http_door, "_STREAM_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(http_door, "_ANSWER_BYTES_MAX", 1 << 16)
    comments, one = Raw([b": ping\n" * 1000] * 400), Raw([piece("a"), b"data: " + b"x" * (1 << 18)])
    with llm_server(comments, one) as llm:
        model = model_of(llm)
        assert isinstance(failure(model.say(ASKED))[1], ModelFailed)
        texts, error = failure(model.say(ASKED))
        assert texts == ["a"]
        assert isinstance(error, ModelFailed)
        model.close()


def test_leaving_ends_the_work_there() -> None:
    """A generator that is closed closes its connection, so the server need not go on; the model stays usable."""
    with llm_server(Raw([piece("a"), *FLOOD])) as llm:
        model = model_of(llm)
        pieces = model.say(ASKED)
        assert next(pieces) == "a"
        pieces.close()
        assert llm.left.wait(10)
        assert heard(model.say(ASKED))[1].text == "On the sofa."
        model.close()


def test_what_warming_met() -> None:
    """A warm-up is refused and fails as any request."""
    with llm_server(Raw([b"no"], 400), Raw([b"{}"]), Raw([b'{"choices": [{}]}'])) as llm:
        model = model_of(llm)
        with pytest.raises(ModelRefused):
            model.warm(ASKED)
        with pytest.raises(ModelFailed, match="choices"):
            model.warm(ASKED)
        assert model.warm(ASKED) == ServedUsage()
        model.close()


# what cannot be asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"engine": "llama"}, {"engine": "vllm", "separator": " # # "}, {"engine": "lmcache", "separator": ""},
     {"api_key": "a b"}],
)  # fmt: skip
def test_a_bad_model_is_refused(options: dict[str, Any]) -> None:
    """What is no engine, separator or key is refused on construction."""
    with pytest.raises(BadName):
        ServedModel("http://localhost:8000", "m", **options)


def test_a_bad_question_is_refused() -> None:
    """Numbers out of range and an empty prompt are refused before anything is sent."""
    with llm_server() as llm:
        model, plain = model_of(llm), model_of(llm, engine="openai")
        bad: list[dict[str, Any]] = [
            {"max_tokens": 0}, {"temperature": 3}, {"top_p": 0}, {"top_p": 1.1}, {"top_p": float("nan")}, {"top_k": -1},
        ]  # fmt: skip
        for numbers in bad:
            with pytest.raises(BadLimit):
                next(model.say(ASKED, **numbers))
        with pytest.raises(BadLimit, match="openai"):
            next(plain.say(ASKED, top_k=5))
        for ask in (model.complete, model.warm, lambda messages: next(model.say(messages))):
            with pytest.raises(BadText):
                ask([])
        assert llm.requests == []


def test_a_secret_stands_in_no_repr() -> None:
    """A model tells where it is and its name."""
    model = ServedModel("http://localhost:8000", "m", api_key=KEY, salt=SECRET)
    assert repr(model) == "ServedModel('http://localhost:8000/v1/chat/completions', 'm')"


def test_httpx_loads_on_the_first_call() -> None:
    """Making a model loads neither httpx nor torch."""
    code = """
import sys
from memos_engine.models.served import ServedModel
ServedModel("http://localhost:9", "m")
print({"httpx", "torch"} & set(sys.modules))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"
