"""Scores of contexts and rankings, on data small enough to count by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.locomo.baselines import Ranking, best_first
from benchmarks.locomo.data import Turn, evidence_ids
from benchmarks.locomo.scoring import (
    answer_words,
    auroc,
    content_words,
    counts,
    coverage,
    covering_words,
    distinct_turns,
    first_rank,
    renamed,
)
from benchmarks.locomo.systems import count_tokens, cut


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        (["D1:3"], ["D1:3"]),
        (["D8:6; D9:17"], ["D8:6", "D9:17"]),
        (["D:11:26"], ["D11:26"]),
        (["D30:05"], ["D30:5"]),
        (["D9:1 D4:4 D4:6", "D4:4"], ["D9:1", "D4:4", "D4:6"]),
        (["D", "none", ""], []),
    ],
)
def test_sloppy_evidence_is_read(written: list[str], ids: list[str]) -> None:
    """Ids are found however they are joined or misspelt, each once."""
    assert evidence_ids(written) == ids


def test_content_words_are_stems_without_stop_words() -> None:
    """Case, inflection and small words make no difference."""
    assert content_words("She was PAINTING the horses") == content_words("painted horse") == {"paint", "hors"}


@pytest.mark.parametrize(
    ("turn", "context", "there"),
    [
        ("red green blue white black", "black white blue green", True),
        ("red green blue white black", "black white blue", False),
        ("red green blue white", "red green blue", False),
        ("red", "red", True),
        ("red", "reddish", False),
        ("and so it was", "and so it was", False),
    ],
)
def test_a_turn_counts_from_80_percent_of_its_words(turn: str, context: str, there: bool) -> None:
    """Four of five content words suffice, three of four do not, and a turn without any never counts."""
    assert counts(content_words(turn), content_words(context)) is there


@pytest.mark.parametrize(
    "context",
    ["[3] on 2021-05-09 she ran", "May 9, 2021: ran", "the 9th of May 2021", "9 may, 2021", "May. 9 2021"],
)
def test_a_date_is_one_word_however_it_is_written(context: str) -> None:
    """A full date, and every coarser naming of it, is covered by each spelling of that date."""
    said = covering_words(context)
    for answer in (
        "9 May 2021",
        "May 9th, 2021",
        "2021-05-09",
        "May 2021",
        "May, 2021",
        "2021",
        "9 May",
        "May",
    ):
        assert coverage(answer_words(answer), said) == 1, answer
    for other in ("8 May 2021", "9 June 2021", "9 May 2020", "June 2021", "8 May"):
        assert coverage(answer_words(other), said) == 0, other


def test_coverage_is_a_share_of_words() -> None:
    """Of an answer with a date and two words, what stands there counts a third each."""
    answer = answer_words("Skating, on the Tuesday after 11 April 2021")
    assert answer == {"2021-04-11", "tuesday", "skate"}
    assert coverage(answer, covering_words("2021-04-11\nThey skated")) == pytest.approx(2 / 3)
    assert coverage(answer_words("That"), covering_words("that")) is None


def test_words_that_look_like_months_are_words() -> None:
    """Without a day or year beside it, a month's name is a word; a number that is no month is no date."""
    assert answer_words("She may march") == {"may", "march"}
    assert "2023-13" not in covering_words("2023-13-01")


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 1], [1, 1], 0.5),
        ([1, 2], [1, 0], 0.875),
        ([], [1], None),
        ([1], [], None),
    ],
)
def test_auroc_counts_ties_half(
    positives: list[float], negatives: list[float], expected: float | None
) -> None:
    """It is the share of pairs in which the positive is above."""
    assert auroc(positives, negatives) == expected


def test_names_are_replaced_as_whole_words() -> None:
    """Both at once, possessives kept, parts of words and lower case left alone."""
    names = {"Ann": "Will", "Will": "Bea"}
    assert renamed("Will Ann's annex will Annoy Will?", names) == "Bea Will's annex will Annoy Bea?"
    assert renamed("Ann", {}) == "Ann"


def test_the_first_hit_that_is_evidence_has_the_rank() -> None:
    """A hit may show several turns; without evidence there is no rank."""
    hits = [("D1:1", "D1:2"), (), ("D2:4", "D1:3")]
    assert first_rank(hits, ["D1:3", "D9:9"]) == 3
    assert first_rank(hits, ["D9:9"]) is None
    assert first_rank(distinct_turns(hits), ["D1:3"]) == 4
    assert distinct_turns([("a", "b"), ("b", "c")]) == [("a",), ("b",), ("c",)]


def test_a_cut_keeps_to_the_budget() -> None:
    """No more tokens than asked for, and no half of a character."""
    text = "a naïve 😀😀😀 face " * 5
    for budget in range(count_tokens(text) + 2):
        kept = cut(text, budget)
        assert text.startswith(kept)
        assert count_tokens(kept) <= budget
    assert cut(text, 1000) == text


def test_windows_print_a_turn_once() -> None:
    """The date stands once a window, and what an earlier window showed is not repeated."""
    a, b, c = (
        Turn(f"D1:{n}", "Ann", f"said {n}", datetime(2024, 3, 5, 10, n, tzinfo=UTC)) for n in range(1, 4)
    )
    found = Ranking([[a, b], [b, c]], lambda _: np.array([1.0, 2.0])).ranked("?")
    assert [hit.text for hit in found] == [
        "[5 March 2024] Ann: said 2\nAnn: said 3",
        "[5 March 2024] Ann: said 1",
    ]
    assert [hit.turns for hit in found] == [("D1:2", "D1:3"), ("D1:1", "D1:2")]


def test_what_is_not_found_has_no_rank() -> None:
    """Equals keep their order; minus infinity is left out."""
    assert best_first(np.array([1.0, -np.inf, 2.0, 1.0])).tolist() == [2, 0, 3]
