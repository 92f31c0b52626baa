"""What a query is taken to ask: about whom, about when, and with which words it is compared."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.recall.understand import Question, understand

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
SPEAKERS = ("Melanie", "Caroline Smith", "Ann Lee", "Ann Gray", "Zoë", "小明", "J.R. Ewing", "Will", "April")
PIECES = [
    *SPEAKERS, "Ann", "'s", "’", "'", "yesterday", "in May 2023", "what", "who", "我", "最近", "?", " ", "\n", "latest",
]  # fmt: skip


def asked(text: str) -> Question:
    """The question, asked at noon of a fixed day, among speakers that never change."""
    return understand(text, speakers=SPEAKERS, now=NOW)


@pytest.mark.parametrize(
    ("text", "person", "words"),
    [
        ("What did Melanie paint?", "Melanie", "What did paint?"),
        ("what did MELANIE paint?", "Melanie", "what did paint?"),
        ("What is Melanie's favourite song?", "Melanie", "What is favourite song?"),
        ("What is Melanie’s favourite song?", "Melanie", "What is favourite song?"),
        ("WHAT IS MELANIE'S FAVOURITE SONG?", "Melanie", "WHAT IS FAVOURITE SONG?"),
        ("What did Caroline Smith say?", "Caroline Smith", "What did say?"),
        ("What did Caroline say?", "Caroline Smith", "What did say?"),
        ("What did caroline  smith say?", "Caroline Smith", "What did say?"),
        ("Smith said what?", None, "Smith said what?"),
        ("What did Ann Lee say?", "Ann Lee", "What did say?"),
        ("Did zoë sing?", "Zoë", "Did sing?"),
        ("What did J.R. Ewing buy?", "J.R. Ewing", "What did buy?"),
        ("What did Melanies sing?", None, "What did Melanies sing?"),
    ],
)
def test_a_speaker_is_a_person_and_no_word(text: str, person: str | None, words: str) -> None:
    """A name, in full or by its first word, in any case and possessive, is handed on and taken out."""
    question = asked(text)
    assert (question.person, question.words, question.text) == (person, words, text)


def test_an_ambiguous_first_name_names_nobody() -> None:
    """Where two speakers share a first name, it alone says nothing, and stays a word."""
    question = asked("What did Ann say?")
    assert (question.person, question.words) == (None, "What did Ann say?")


def test_several_speakers_are_nobody() -> None:
    """Two names give no bonus to either, and neither is compared; one name twice is one person."""
    question = asked("When did Melanie meet Zoë there?")
    assert (question.person, question.words) == (None, "When did meet there?")
    assert asked("Did Melanie like what Melanie's band played?").person == "Melanie"


@pytest.mark.parametrize("text", ["Melanie", "Melanie?", "Melanie's", "Melanie Zoë", "about Melanie"])
def test_a_query_of_names_is_compared_whole(text: str) -> None:
    """When hardly anything is left but names, the words are the text."""
    assert asked(text).words == text


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("小明最近喜欢吃什么？", "小明"),
        ("昨天小明去了哪里", "小明"),
        ("小明", "小明"),
        ("Melanie最近怎么样", "Melanie"),
        ("明天下雨吗", None),
    ],
)
def test_chinese_names(text: str, person: str | None) -> None:
    """A name is found where no spaces are written."""
    question = asked(text)
    assert question.person == person
    assert question.words
    if text != person and person:
        assert person not in question.words


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("What will Melanie bring?", "Melanie"),
        ("When will she come?", None),
        ("Where did Will go?", "Will"),
        ("What did Melanie do in April 2023?", "Melanie"),
        ("What happened in April?", None),
        ("What did April say in April 2023?", "April"),
    ],
)
def test_names_that_are_words_too(text: str, person: str | None) -> None:
    """A small `will` is a verb, and a month that dates the question names no speaker."""
    assert asked(text).person == person


def window(text: str) -> tuple[str, str] | None:
    """The window of a query, as dates; its end is exclusive."""
    found = asked(text).window
    return None if found is None else (f"{found[0]:%Y-%m-%d}", f"{found[1]:%Y-%m-%d}")


def test_windows() -> None:
    """Relative times count from the clock, absolute ones do not, several make one window."""
    assert window("What happened yesterday?") == ("2025-05-31", "2025-06-01")
    assert window("What happened in May 2023?") == ("2023-05-01", "2023-06-01")
    assert window("What changed from May 2023 to July 2023?") == ("2023-05-01", "2023-08-01")
    assert window("昨天发生了什么") == ("2025-05-31", "2025-06-01")
    assert window("What happened?") is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("How many cats has she?", "how_many"), ("How often does he swim?", "how_many"),
        ("Who came?", "who"), ("Whose car is it?", "who"), ("Where is it?", "where"), ("Why?", "why"),
        ("Which boat sank?", "what"), ("有几个人", "how_many"), ("谁来了", "who"), ("在哪里", "where"),
        ("为什么", "why"), ("这是什么", "what"), ("The boat sank.", "statement"), ("Whatever", "statement"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str) -> None:
    """The question word tells what is asked, in English and Chinese."""
    assert asked(text).kind == kind


def test_first_person_and_latest() -> None:
    """`Me` without `you` and without a name is the user; words of newness ask for the newest."""
    assert asked("Where do I live?").first_person
    assert asked("我住在哪里").first_person
    assert not asked("What did you tell me?").first_person
    assert not asked("What did Melanie give me?").first_person
    assert not asked("Where does Imelda live?").first_person
    assert asked("What is my latest job?").latest
    assert asked("她现在住在哪里").latest
    assert not asked("the least job").latest


def test_what_was_understood_is_told() -> None:
    """The line names the kind, the person, the window, newness and the words."""
    told = str(asked("What did Melanie's band play last in May 2023, most recently?"))
    assert told.startswith("what, about Melanie, from 2023-05-01 00:00 to 2023-06-01 00:00 UTC, the newest")
    assert told.endswith(": What did band play last in May 2023, most recently?")
    assert "about the user" in str(asked("Where do I live?"))


@given(
    st.text(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.text(max_size=12) | st.sampled_from(SPEAKERS), max_size=6),
)
def test_any_text_is_understood(text: str, speakers: list[str]) -> None:
    """No text and no name breaks it; the words of a text are never blank, and a person is a speaker."""
    question = understand(text, speakers=speakers, now=NOW)
    assert question.text == text
    assert bool(question.words.strip()) == bool(text.strip())
    assert question.person is None or question.person in speakers
    assert question.window is None or question.window[0] < question.window[1]
    assert question.words in str(question)


@pytest.mark.parametrize("text", ["Melanie " * 12_000, "yesterday " * 9_000, "'" * 100_000, "a" * 100_000])
def test_a_huge_query_is_understood(text: str) -> None:
    """A pasted page is a query too."""
    assert asked(text).words.strip()
