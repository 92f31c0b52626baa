"""Chat of a cube with a served model, from the front door to a real socket: what is sent, shared and kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_engine import MemCube, MemOS, Message, Scope
from memos_engine.errors import ModelFailed
from memos_engine.models.served import ServedModel
from memos_engine.testing.fakes import HashEmbedder
from tests.models.llm_server import LlmServer, Raw, llm_server, piece

ROOT = Path(__file__).parent.parent.parent
FACTS = ["My cat is called Momo.", "Momo sleeps on the red sofa.", "I live in Lisbon."]
ASKED = [
    Message("system", "You know this house well. " * 20),
    Message("user", "Where does my cat Momo sleep?"),
]


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    """An empty store."""
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder()) as memos:
        yield memos


@pytest.fixture
def cube(memos: MemOS) -> MemCube:
    """A cube that knows some facts."""
    cube = memos.cube("ann")
    cube.capture([Message("user", fact, name="Ann") for fact in FACTS], thread="before")
    return cube


@pytest.fixture
def llm() -> Iterator[LlmServer]:
    """A server that answers."""
    with llm_server() as llm:
        yield llm


def test_a_cube_talks_through_a_server(cube: MemCube, llm: LlmServer) -> None:
    """Memories reach the server in the order of their ids, and the answer is captured with the question."""
    model = ServedModel(llm.url, "tiny", salt="secret")
    answer = cube.chat(model, ASKED, min_score=0)
    assert answer.text == "On the sofa."
    assert answer.memories == tuple(sorted(answer.memories))
    assert len(answer.memories) == 3
    sent = llm.messages[0][-1]["content"]
    assert [sent.index(fact) for fact in FACTS] == sorted(sent.index(fact) for fact in FACTS)
    assert sent.endswith(ASKED[-1].text)
    assert answer.cached_tokens == 0
    assert answer.captured is not None
    assert "On the sofa." in [item.text for item in cube.list(limit=20)]


def test_the_next_turn_finds_what_was_read(cube: MemCube, llm: LlmServer) -> None:
    """The system text and the turns before are not read again."""
    model = ServedModel(llm.url, "tiny")
    first = cube.chat(model, ASKED, thread="now", min_score=0)
    talk = [*ASKED, Message("assistant", first.text), Message("user", "And where do I live?")]
    second = cube.chat(model, talk, thread="now", min_score=0)
    assert first.cached_tokens == 0
    assert second.cached_tokens is not None
    assert second.cached_tokens > 90


def test_people_and_cubes_never_share(memos: MemOS, cube: MemCube, llm: LlmServer) -> None:
    """Equal prompts from two people, or of one person to two cubes, bear different salts that tell no name."""
    model = ServedModel(llm.url, "tiny", salt="secret")
    handles = []
    for user in ("bob", "eve"):
        cube.grant(Scope(user=user), "read")
        handles.append(memos.acting_as(Scope(user=user)).cube("ann", owner="root"))
    answers = [each.chat(model, ASKED, min_score=0, capture=False) for each in [*handles, handles[0]]]
    other = memos.cube("other").chat(model, ASKED, min_score=0, capture=False)
    assert llm.prompts[0] == llm.prompts[1] == llm.prompts[2]
    assert [answer.cached_tokens for answer in answers[:2]] == [0, 0]
    assert answers[2].cached_tokens
    assert other.cached_tokens == 0
    salts = [str(request.fields["cache_salt"]) for request in llm.requests]
    assert salts[0] == salts[2]
    assert len(set(salts)) == 3
    assert not any(name in salt for salt in salts for name in ("bob", "eve", cube.id))


def test_warming_reads_the_conversation(memos: MemOS, cube: MemCube, llm: LlmServer) -> None:
    """What was said so far is read ahead under the same salt, nothing is captured, and a reader may do it."""
    cube.grant(Scope(user="bob"), "read")
    bobs = memos.acting_as(Scope(user="bob")).cube("ann", owner="root")
    model, known = ServedModel(llm.url, "tiny", salt="secret"), cube.list(limit=20)
    talk = [*ASKED, Message("assistant", "On the sofa, as it does each day of the year. " * 9)]
    usage = bobs.warm(model, talk)
    answer = bobs.chat(model, [*talk, Message("user", "Since when?")], min_score=0, capture=False)
    strangers = cube.chat(model, [*talk, Message("user", "Since when?")], min_score=0, capture=False)
    assert (usage.cached_tokens, usage.completion_tokens) == (0, 1)
    assert usage.prompt_tokens is not None
    assert answer.cached_tokens is not None
    assert answer.cached_tokens > usage.prompt_tokens - 32
    assert strangers.cached_tokens == 0
    assert cube.list(limit=20) == known


def test_a_cut_stream_captures_nothing(cube: MemCube) -> None:
    """What came was heard; the turn is none."""
    known = cube.list(limit=20)
    with llm_server(Raw([piece("On"), piece(" the"), 0.05], cut=True)) as llm:
        stream = cube.chat_stream(ServedModel(llm.url, "tiny"), ASKED)
        heard: list[str] = []
        with pytest.raises(ModelFailed):
            heard.extend(stream)
    assert heard == ["On", " the"]
    assert cube.list(limit=20) == known


def test_who_leaves_early_keeps_what_was_said(cube: MemCube) -> None:
    """Closing a stream closes the connection, and the turn is captured as far as it went."""
    flood: list[bytes | float] = [piece("b" * 4000), 0.01] * 2000
    with llm_server(Raw([piece("On the"), *flood])) as llm:
        with cube.chat_stream(ServedModel(llm.url, "tiny"), ASKED) as stream:
            assert next(stream) == "On the"
        assert llm.left.wait(10)
    assert (stream.answer.text, stream.answer.finish) == ("On the", "closed")
    assert "On the" in [item.text for item in cube.list(limit=20)]


def test_the_guides_code_runs(tmp_path: Path, llm: LlmServer) -> None:
    """The Python of docs/serving.md runs as pasted, but for the server's address and an embedder without weights."""
    guide = (ROOT / "docs" / "serving.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    block = block.replace("http://localhost:8000", llm.url).replace(
        'memories")', 'memories", embedder=HashEmbedder())'
    )
    code = f"from memos_engine.testing.fakes import HashEmbedder\n{block}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"On the sofa\.\n 0 of \d+ tokens were not read again\n", done.stdout)
    assert "Momo" in llm.prompts[0]
