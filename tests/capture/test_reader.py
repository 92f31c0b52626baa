"""What the fast reader drafts from a turn, and what it leaves alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.capture.reader import DRAFTS_MAX, NOT_SPEAKERS, READ_CHARS, MemReader, Reading, Turn
from memos_engine.errors import BadTime

SAID = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def read(text: str, *, role: str = "user", speaker: str | None = "Alice") -> Reading:
    """Read one turn of Alice's."""
    return MemReader().read(Turn(text, speaker, role, SAID))


DRAFTED = [
    ("Remember that I am allergic to nuts.", "preference", "I am allergic to nuts."),
    ("remember that my locker code is 4412", "fact", "my locker code is 4412"),
    ("Can you remember that my locker code is 4412?", "fact", "my locker code is 4412"),
    ("Hey, please remember: the gate code is 99", "fact", "the gate code is 99"),
    ("Please don't forget to water it", "note", "don't forget to water it"),
    ("Don't forget to call mum tomorrow", "note", "Don't forget to call mum tomorrow (9 May 2023)"),
    ("I prefer window seats", "preference", "I prefer window seats"),
    ("I don't like cilantro.", "preference", "I don't like cilantro."),
    ("Honestly I can't stand loud bars", "preference", "Honestly I can't stand loud bars"),
    ("i love jazz", "preference", "i love jazz"),
    ("I'm allergic to peanuts", "preference", "I'm allergic to peanuts"),
    ("I'm not a fan of horror films", "preference", "I'm not a fan of horror films"),
    ("My favourite colour is blue", "preference", "My favourite colour is blue"),
    ("Dune is my favorite book.", "preference", "Dune is my favorite book."),
    ("I love swimming in March", "preference", "I love swimming in March"),
    ("My name is Alice Smith", "fact", "My name is Alice Smith"),
    ("I live in a small town", "fact", "I live in a small town"),
    ("I moved to Lisbon in May.", "fact", "I moved to Lisbon in May (May 2023)."),
    ("I moved to Rome last week", "fact", "I moved to Rome last week (1 May 2023 to 7 May 2023)"),
    ("I moved to Rome last summer", "fact", "I moved to Rome last summer (June 2022 to August 2022)"),
    ("I moved to Rome last night", "fact", "I moved to Rome last night (7 May 2023)"),
    ("I moved to Rome on 8 May 2021", "fact", "I moved to Rome on 8 May 2021"),
    ("I work at a bakery", "fact", "I work at a bakery"),
    ("I'm a pediatric nurse.", "fact", "I'm a pediatric nurse."),
    ("My birthday is May 20", "fact", "My birthday is May 20"),
    ("I have two dogs.", "fact", "I have two dogs."),
    ("我对花生过敏。", "preference", "我对花生过敏。"),
    ("我不喜欢香菜", "preference", "我不喜欢香菜"),
    ("我最喜欢的颜色是蓝色", "preference", "我最喜欢的颜色是蓝色"),
    ("请记住我的储物柜密码是4412", "fact", "我的储物柜密码是4412"),
    ("别忘了明天给我妈打电话", "note", "别忘了明天（2023年5月9日）给我妈打电话"),
    ("我叫王小明", "fact", "我叫王小明"),
    ("我住在上海", "fact", "我住在上海"),
    ("我昨天搬到了北京。", "fact", "我昨天（2023年5月7日）搬到了北京。"),
    ("我在谷歌工作", "fact", "我在谷歌工作"),
    ("我的生日是5月20日", "fact", "我的生日是5月20日"),
    ("暗証番号は4412、覚えておいて", "fact", "暗証番号は4412、覚えておいて"),
]

NOT_DRAFTED = [
    "Do you like cats?",
    "I love pizza, do you?",
    "Remember when we met?",
    "Do you remember that I moved to Rome?",
    "I remember that I moved",
    "Remember, you are loved.",
    "Remember that life is short",
    "Don't forget to breathe!",
    "I can't remember my code",
    "If I liked tea, I would drink it.",
    "I would love to see Rome",
    "I'd love a coffee",
    "I wish I lived in Rome, I love Rome",
    "It's not that I hate tea",
    'He said "I love tea" again',
    "“I hate rain.” That is what the song says",
    "> I love spam",
    "```\nI love code\n```",
    "Mom said I love tea.",
    "She said, I hate tea",
    "Sam: I live in Rome",
    "My brother likes tea. Sam hates it.",
    "I love it! I love your painting. I love how it looks.",
    "I used to love tea",
    "I loved the film",
    "I live in fear",
    "I'm a bit tired and I'm a mess",
    "I hate tea, just kidding",
    "I like to",
    "你喜欢喝茶吗？",
    "我喜欢你",
    "如果我喜欢喝茶，我会说",
    "他说我喜欢茶",
    "“我讨厌下雨”这首歌",
    "我叫他去",
    "你还记得我吗？",
    "记得那天我们去了海边",
    "我以前喜欢喝茶",
]


@pytest.mark.parametrize(("text", "kind", "words"), DRAFTED)
def test_a_statement_of_the_speaker_becomes_a_draft(text: str, kind: str, words: str) -> None:
    """Requests, preferences and facts are kept in the speaker's words, with the speaker and the dates."""
    (draft,) = read(text).drafts
    assert (draft.kind, draft.text) == (kind, f"Alice: {words}")
    assert 0 < draft.confidence < 1


@pytest.mark.parametrize("text", NOT_DRAFTED)
def test_what_is_no_statement_of_the_speaker_makes_no_draft(text: str) -> None:
    """Questions, conditions, quotations, praise, advice and words about others are left alone."""
    assert read(text).drafts == ()


def test_only_the_sentence_that_states_is_drafted() -> None:
    """The rest of a turn stays in the turn."""
    reading = read("I went to the clinic yesterday. Remember that I am allergic to nuts.")
    (draft,) = reading.drafts
    assert draft.span == (46, 68)
    assert draft.event_at is None
    assert [mention.text for mention in reading.times] == ["yesterday"]


def test_two_statements_of_one_sentence_are_two_drafts() -> None:
    """Clauses that each speak of the speaker stand alone."""
    first, second = read("I'm allergic to peanuts, and I moved to Lisbon in May.").drafts
    assert first.text == "Alice: I'm allergic to peanuts"
    assert (second.kind, second.event_at) == ("fact", datetime(2023, 5, 1, tzinfo=UTC))


@pytest.mark.parametrize("role", [*sorted(NOT_SPEAKERS), "Assistant"])
def test_models_and_tools_have_no_preferences(role: str) -> None:
    """Their turns are read for people and times only."""
    reading = read("I love tea. My sister Elin came yesterday.", role=role)
    assert reading.drafts == ()
    assert reading.people == ("Elin",)
    assert len(reading.times) == 1


def test_the_roles_that_speak_can_be_chosen() -> None:
    """A collection or a predicate says whose words make drafts."""
    turn = Turn("I love tea", None, "assistant", SAID)
    assert MemReader(roles=["assistant"]).read(turn).drafts[0].text == "assistant: I love tea"
    assert MemReader(roles=lambda role: role.startswith("a")).read(turn).drafts
    assert not MemReader(roles=["user"]).read(turn).drafts


def test_known_people_are_found() -> None:
    """The turn brings the names that may be mentioned."""
    turn = Turn("Caroline painted it", "Mel", "user", SAID, known_people=("Caroline", "Mel"))
    assert MemReader().read(turn).people == ("Caroline",)


def test_a_turn_makes_a_few_drafts_at_most() -> None:
    """A document of statements is no talk: its first few are drafted, each once."""
    text = "I love tea. " * 3 + " ".join(f"I love tea {number}." for number in range(50))
    drafts = read(text).drafts
    assert len(drafts) == DRAFTS_MAX
    assert len({draft.text for draft in drafts}) == DRAFTS_MAX


def test_what_stands_far_behind_is_not_read() -> None:
    """Beyond the part that is read nothing is drafted."""
    assert read("x. " * READ_CHARS + "I love tea.") == Reading()


def test_a_naive_time_is_refused() -> None:
    """A turn has a moment before it is read."""
    with pytest.raises(BadTime):
        MemReader().read(Turn("", None, "user", datetime(2023, 5, 8)))  # noqa: DTZ001 -- the bad input itself


PIECES = st.sampled_from(
    [text for text, *_ in DRAFTED] + NOT_DRAFTED + [". ", "! ", "\n", '"', "'", "。", "(", " and "]
)


@given(st.lists(PIECES | st.text(max_size=20), max_size=8).map("".join))
def test_a_draft_holds_the_words_of_its_span_in_order(text: str) -> None:
    """No draft invents: without the dates that were added it is its span, word for word."""
    reading = read(text)
    assert len(reading.drafts) <= DRAFTS_MAX
    for draft in reading.drafts:
        start, stop = draft.span
        assert 0 <= start < stop <= len(text)
        words = iter(draft.text.removeprefix("Alice: "))
        assert all(mark in words for mark in text[start:stop])
        if not any(start <= time.span[0] < stop for time in reading.times):
            assert draft.text == f"Alice: {text[start:stop]}"
            assert draft.event_at is None


HOSTILE = [
    "." * 200_000 + "x",
    "!?" * 100_000 + "x",
    "'a " * 66_000,
    '"' * 200_000,
    "I really " * 22_000,
    " and and" * 25_000,
    "hey, " * 40_000,
    "remember " * 22_000,
    "我很很很喜欢" * 33_000,
    "\n" * 200_000,
    "```a" * 50_000,
    "I love pizza and I hate rain yesterday. " * 25_000,
    "\ud800\x00 I love \ud800. " * 10_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:8]))
def test_no_text_takes_long(text: str) -> None:
    """200 KB to 1 MB made to provoke back-tracking take less than a second."""
    began = time.perf_counter()
    read(text)
    assert time.perf_counter() - began < 1
