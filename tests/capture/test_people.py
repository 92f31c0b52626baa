"""Names of people, and capitalised words that are none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_engine.capture.people import find_people

NAMED = [
    ("my sister Elin moved", ["Elin"]),
    ("My best friend Kate is here", ["Kate"]),
    ("I had lunch with Sam.", ["Sam"]),
    ("We had dinner with Sam, Kate and Lee yesterday", ["Sam", "Kate", "Lee"]),
    ("a guy called Oskar", ["Oskar"]),
    ("Her name is Luna.", ["Luna"]),
    ("Anthony and I went to this place", ["Anthony"]),
    ("Then Mia Brown said no", ["Mia Brown"]),
    ("It was Elin's birthday", ["Elin"]),
    ("Dr. Smith met Jones", ["Smith", "Jones"]),
    ("our dog Max barked", ["Max"]),
    ("Hey Élodie! How are you?", ["Élodie"]),
    ("Yesterday Samantha told me", ["Samantha"]),
    ("an aunt of mine, Jill, and Aunt Jill again", ["Jill"]),
    ("我叫王小明", ["王小明"]),
    ("我和张伟去吃饭", ["张伟"]),
    ("同事陈静说她忙，我的朋友叫李娜。", ["陈静", "李娜"]),
    ("我跟小明聊天", ["小明"]),
]

UNNAMED = [
    "",
    "I love Paris and Python.",
    "I flew from Toronto to New York in May.",
    "On Monday I'm with NASA.",
    "We played Overwatch with Nintendo controllers",
    "Thanks! Sounds great. Wow, Canada!",
    "My mom said so. Everyone said so.",
    "a charity event with Harry Potter trivia",
    "a game called Civilization",
    "my German friends",
    "和金融公司开会",
    "我叫他去",
    "跟老板说",
    "我喜欢和平",
]


@pytest.mark.parametrize(("text", "people"), NAMED)
def test_names_are_found_by_the_words_around_them(text: str, people: list[str]) -> None:
    """A name beside words that people have about people is taken, in order, once."""
    assert find_people(text) == tuple(people)


@pytest.mark.parametrize("text", UNNAMED)
def test_other_capitals_are_no_names(text: str) -> None:
    """Places, days, brands, games and the heads of sentences are nobody."""
    assert find_people(text) == ()


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("Caroline painted it", ["Caroline Lee"]),
        ("Caroline Lee painted it", ["Caroline Lee"]),
        ("a carolines word", []),
        ("Thanks, Caro! That's kind", ["Caroline Lee"]),
        ("caroline lee", []),
        ("Will you come?", []),
        ("I told Will. Will said yes.", ["Will"]),
        ("Bob's here", ["bob"]),
        ("昨天李娜来了", ["李娜"]),
    ],
)
def test_known_names_are_found_anywhere(text: str, people: list[str]) -> None:
    """A known name needs no words around it, and its first name or short form stands for it."""
    assert find_people(text, known=["Caroline Lee", "Will", "bob", "李娜", "", " "]) == tuple(people)


def test_a_first_name_that_two_people_share_stays_as_it_is() -> None:
    """Nobody is guessed where two known names begin alike."""
    known = ["Alice Smith", "Alice Brown"]
    assert find_people("Alice came, then Alice Brown", known=known) == ("Alice Brown",)
    assert find_people("Alice came", known=known) == ("Alice",)


@given(st.text(max_size=200), st.lists(st.text(max_size=12), max_size=4))
def test_any_text_and_any_known_names_are_taken(text: str, known: list[str]) -> None:
    """Nothing raises, and no name comes twice or blank."""
    people = find_people(text, known=known)
    assert len(set(people)) == len(people)
    assert all(name.strip() for name in people)


HOSTILE = [
    "Aa " * 66_000,
    "met Sam, " * 22_000,
    "my " * 66_000,
    "talk a " * 28_000,
    "A" + "a" * 200_000 + "1",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:8]))
def test_no_text_takes_long(text: str) -> None:
    """200 KB made to provoke back-tracking take less than a second."""
    began = time.perf_counter()
    find_people(text, known=["Sam"])
    assert time.perf_counter() - began < 1
