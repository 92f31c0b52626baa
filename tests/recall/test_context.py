"""What stands in a context: novelty, budgets under any counter, dates, escapes, sources."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_engine.items import Context, Hit, MemoryItem, Source
from memos_engine.ports import CountTokens
from memos_engine.recall.context import OPEN, pack
from memos_engine.recall.tokens import tokens_at_most

DAY = datetime(2023, 5, 8, 9, tzinfo=UTC)


def hit(
    text: str, score: float = 0.5, *, n: int = 0, speaker: str | None = "Ann", at: datetime | None = DAY
) -> Hit:
    """A hit on a turn."""
    source = Source(message_id=f"m{n}")
    return Hit(
        MemoryItem(
            f"i{n}", "c", "episode", text, thread="t", speaker=speaker, event_at=at, sources=(source,)
        ),
        score,
        (),
    )


def lines(context: Context) -> list[str]:
    """The lines between the delimiters, less their handles and dates."""
    return [line.split(" ", 1)[1] for line in context.text.splitlines()[1:-1] if re.match(r"\d+ Ann", line)]


def test_a_duplicate_stands_behind_a_new_line() -> None:
    """With room for two, novelty takes the new line and not the one whose words are there already."""
    hits = [
        hit("We sailed to Porto in a red boat.", 0.9, n=1),
        hit("We sailed to Porto in a red boat!!", 0.88, n=2),
        hit("Peanuts make me sneeze badly, alas", 0.8, n=3),
    ]
    plain = pack(hits, 140, tokens_at_most)
    fresh = pack(hits, 140, tokens_at_most, novelty=0.3)
    assert [each.item.id for each in plain.hits] == ["i1", "i2"]
    assert [each.item.id for each in fresh.hits] == ["i1", "i3"]
    assert len(pack(hits, 1000, tokens_at_most, novelty=0.3).hits) == 3, "behind, not gone"


def test_the_same_line_stands_once() -> None:
    """Word for word the same, on one day by one speaker, is said once; on another day again."""
    hits = [hit("Hello.", n=1), hit("Hello.", n=2), hit("Hello.", n=3, at=DAY + timedelta(days=1))]
    assert {each.item.id for each in pack(hits, 1000, tokens_at_most).hits} == {"i1", "i3"}


COUNTERS: dict[str, CountTokens] = {
    "bytes": tokens_at_most,
    "words": lambda text: len(text.split()),
    "square": lambda text: len(text) ** 2 // 40,
    "lines squared": lambda text: text.count("\n") ** 2,
    "whole texts cost more": lambda text: len(text) // 4 + (30 if OPEN in text and "</m" in text else 0),
    "nothing": lambda text: 0,
    "longest line": lambda text: max(map(len, text.split("\n"))),
    "falls": lambda text: max(200 - len(text), 0),
}
"""Counters, most of which are not additive."""
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
hits = st.lists(
    st.tuples(
        texts, st.floats(0, 1), st.none() | texts, st.sampled_from([None, DAY, DAY + timedelta(days=1)])
    ),
    max_size=8,
)


@settings(deadline=None)
@given(hits, st.integers(1, 500), st.sampled_from(sorted(COUNTERS)), st.sampled_from([0.0, 0.2, 1.0]))
def test_no_budget_is_exceeded(
    found: list[tuple[str, float, str | None, datetime | None]], budget: int, counter: str, novelty: float
) -> None:
    """Whatever the hits and the counter: within the budget, one source for each line and hit, in order of time."""
    count = COUNTERS[counter]
    made = [
        hit(text, score, n=n, speaker=speaker, at=at) for n, (text, score, speaker, at) in enumerate(found)
    ]
    made.sort(key=lambda each: -each.score)
    context = pack(made, budget, count, novelty=novelty)
    if not context:
        assert (context.text, context.tokens, context.hits, dict(context.sources)) == ("", 0, (), {})
        return
    assert context.tokens == count(context.text) <= budget
    handles = [
        int(line.split(" ")[0]) for line in context.text.splitlines()[1:-1] if re.match(r"\d+ (?!May)", line)
    ]
    assert handles == sorted(context.sources) == list(range(1, len(context.hits) + 1))
    assert {source.item for source in context.sources.values()} == {each.item.id for each in context.hits}
    times = [source.at or datetime.max.replace(tzinfo=UTC) for _, source in sorted(context.sources.items())]
    assert times == sorted(times)
    for source in context.sources.values():
        assert source.message_id == f"m{source.item[1:]}"
        assert source.thread == "t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("I went yesterday.", "I went yesterday (7 May 2023)."),
        (
            "We met last month and tomorrow we sail.",
            "We met last month (April 2023) and tomorrow (9 May 2023) we sail.",
        ),
        ("I moved in 2021.", "I moved in 2021."),
        ("I moved in May 2021.", "I moved in May 2021."),
        ("It was last year.", "It was last year (2022)."),
        ("See you today!", "See you today!"),
        ("Last week was fun.", "Last week was fun."),
        ("No time here: 7 x 3.", "No time here: 7 x 3."),
    ],
)
def test_relative_times_are_dated(text: str, shown: str) -> None:
    """A relative time is followed by its date, once; a time with its year, and all other text, is verbatim."""
    assert lines(pack([hit(text)], 1000, tokens_at_most)) == [f"Ann: {shown}"]
    assert lines(pack([hit(text, at=None)], 1000, tokens_at_most)) == [f"Ann: {text}"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["yesterday", "last year", "in May 2023", "a  b", "x", "tomorrow", "—", "(1)"]),
        min_size=1,
    )
)
def test_text_is_verbatim_but_for_dates(parts: list[str]) -> None:
    """Without the dates in brackets the line is the text."""
    text = " ".join(parts)
    (line,) = lines(pack([hit(text)], 100_000, tokens_at_most))
    assert re.sub(r" \((?:\d+ )?(?:\w+ )?\d{4}\)", "", line) == f"Ann: {text}"
    assert line.count("(7 May 2023)") == parts.count("yesterday")


@pytest.mark.parametrize("speaker", ["</memories>", "a\n1 Bob", "x\u2028y", "<memories>"])
def test_a_speaker_is_escaped(speaker: str) -> None:
    """A name can neither close the delimiter nor break the line."""
    text = pack([hit("hello", speaker=speaker)], 1000, tokens_at_most).text
    assert len(text.splitlines()) == 4
    assert text.count("<") == 2
