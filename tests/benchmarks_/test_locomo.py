"""The LoCoMo benchmark from a file to its results, on two invented conversations and a hashing embedder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.locomo.__main__ import main
from benchmarks.locomo.data import read_conversations
from benchmarks.plots import main as plot
from benchmarks.plots import read_curves
from memos_engine.testing.fakes import HashEmbedder

SYSTEMS = ["ours", "ours ranked", "bm25", "dense", "rrf", "window blend"]


def said(session: int, *texts: str, speakers: tuple[str, str]) -> list[dict[str, str]]:
    """Turns of one session, the speakers in turns."""
    return [
        {"speaker": speakers[n % 2], "dia_id": f"D{session}:{n + 1}", "text": text}
        for n, text in enumerate(texts)
    ]


def conversation(name: str, speakers: tuple[str, str], pet: str, town: str) -> dict[str, Any]:
    """A talk over two sessions, and a question of each category."""
    first, second = speakers
    opening = said(
        1, f"My {pet} learned to open the door.", "How clever of it!", f"I am moving to {town} soon.",
        speakers=speakers,
    )  # fmt: skip
    opening[1] |= {"blip_caption": "a wooden door with a brass handle", "img_url": "door.jpg"}
    later = said(2, "The furniture arrived yesterday.", f"Send me a picture of {town}!", speakers=speakers)
    asked = [
        (1, f"Which pet and which town does {first} speak of?", f"{pet}, {town}", ["D1:1; D1:3"]),
        (2, f"When did {first} tell of the {pet}?", "4 March 2024", ["D1:01"]),
        (3, f"Would {second} like a picture?", "Probably, yes", ["D:2:2"]),
        (4, f"What arrived at {first}'s?", "Furniture", ["D2:1"]),
        (4, "What nobody said?", 7, ["D9:9"]),
    ]
    questions: list[dict[str, Any]] = [
        {"question": text, "answer": answer, "evidence": evidence, "category": category}
        for category, text, answer, evidence in asked
    ]
    adversarial = {
        "question": f"What did {second} sell?", "adversarial_answer": "A door", "evidence": ["D1:2"], "category": 5,
    }  # fmt: skip
    talk = {
        "speaker_a": first, "speaker_b": second,
        "session_1_date_time": "1:56 pm on 4 March, 2024", "session_1": opening,
        "session_2_date_time": "9:05 am on 21 March, 2024", "session_2": later,
        "session_3_date_time": "9:05 am on 22 March, 2024",
    }  # fmt: skip
    return {"sample_id": name, "conversation": talk, "qa": [*questions, adversarial]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of two conversations."""
    path = tmp_path / "talks.json"
    talks = [
        conversation("talk-1", ("Ines", "Marek"), "parrot", "Porto"),
        conversation("talk-2", ("Odile", "Tarik"), "ferret", "Bergen"),
    ]
    path.write_text(json.dumps(talks), encoding="utf-8")
    return path


def test_a_file_is_read(data: Path) -> None:
    """Captions belong to the text, turns to a moment, questions to turns that are there."""
    talk = read_conversations(data)[0]
    assert [len(session) for session in talk.sessions] == [3, 2]
    assert talk.turns[1].text == "How clever of it! [shares an image: a wooden door with a brass handle]"
    assert f"{talk.turns[1].at:%Y-%m-%d %H:%M:%S %Z}" == "2024-03-04 13:56:30 UTC"
    assert [question.evidence for question in talk.asked()] == [
        ("D1:1", "D1:3"),
        ("D1:1",),
        ("D2:2",),
        ("D2:1",),
    ]
    assert [question.evidence for question in talk.adversarial()] == [("D1:2",)]


def test_the_benchmark_runs_and_is_drawn(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every system has a row of shares; a whole conversation fits the budgets; the plot is the same twice."""
    results = tmp_path / "results.json"
    assert main(["--data", str(data), "--json", str(results), "--budgets", "10"], HashEmbedder()) == 0
    document = json.loads(results.read_text(encoding="utf-8"))
    rows = document["results"]
    assert [row["system"] for row in rows] == SYSTEMS
    assert document["machine"]["data"] == "talks.json"
    for row in rows:
        assert row["questions"] == 8
        assert row["questions_multi_hop"] == 2
        shares = {
            name: value for name, value in row.items() if "@" in name or "auroc" in name or "mrr" in name
        }
        assert all(value is None or 0 <= value <= 1 for value in shares.values()), shares
        assert row["recall@10tok"] < row["recall@2000tok"]
    for row in rows:
        if row["system"] in {"dense", "rrf", "window blend"}:  # what ranks every turn
            assert row["recall@1000tok"] == 1
            assert row["answer_coverage@1000tok_temporal"] == 1
    assert rows[0]["recall_ms_p50"] > 0
    assert {row["system"] for row in rows if row["abstain_auroc"] is not None} == {"ours", "bm25", "dense"}

    told = capsys.readouterr()
    assert "recall@1000tok by category" in told.out
    assert "talk-2: 4 questions asked" in told.err

    pictures = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for picture in pictures:
        assert plot([str(results), "--out", str(picture)]) == 0
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert "evidence recall" in pictures[0].read_text(encoding="utf-8")


def test_a_quick_run_of_one_conversation_has_nothing_to_abstain_from(data: Path, tmp_path: Path) -> None:
    """Without another conversation the AUROC against it is not there."""
    results = tmp_path / "results.json"
    talks = json.loads(data.read_text(encoding="utf-8"))
    data.write_text(json.dumps(talks[:1]), encoding="utf-8")
    assert main(["--data", str(data), "--json", str(results), "--quick"], HashEmbedder()) == 0
    rows = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert all(row["abstain_auroc"] is None for row in rows)
    assert all(row["questions"] == 1 for row in rows)


def test_a_plot_needs_several_budgets(tmp_path: Path) -> None:
    """Results of one budget are refused, and told how to get more."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": [{"system": "ours", "recall@500tok": 0.5}]}), encoding="utf-8")
    with pytest.raises(ValueError, match="--budgets"):
        read_curves(path)
