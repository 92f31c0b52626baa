"""The words of a text that may name things, which of them do, and the themes they make."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memos_engine.tree.themes import themes
from memos_engine.tree.things import (
    THINGS_PER_ITEM,
    Corpus,
    Thing,
    best,
    mark,
    next_mark,
    things_of,
    variants,
)
from memos_engine.tree.words import words_in

ROOT = Path(__file__).parent.parent.parent


def keys(text: str) -> list[str]:
    """The words of a text; a gap is a bar."""
    return [word.key or "|" for word in words_in(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("My guinea pigs love the parties", ["guinea", "pig", "|", "party"]),
        ("movies, cookies and potatoes", ["movie", "|", "cookie", "|", "potato"]),
        ("I really went there because we were happily talking", []),
        ("Paris and Dallas and Texas", ["paris", "|", "dallas", "|", "texas"]),
        ("Anna's pottery, the kids' kilns", ["anna", "pottery", "|", "kiln"]),
        ("see https://example.org/pottery/kiln or ann@example.org", []),
        ("room 42b, 3rd of 2024, x2", []),
        ("我喜欢陶器 and glazes", ["glaze"]),
        ("Хорошо, керамика у нас", ["хорошо", "|", "керамика"]),
        ("the biggest, nicest, dancing-shoes", ["dancing-shoe"]),
        ("don't we're it's I'll", []),
        ("x" * 31 + " " + "y" * 30, ["y" * 30]),
        ("", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    """Words are singular and lower case; what names nothing is a gap."""
    assert [key for key in keys(text) if key != "|"] == [key for key in found if key != "|"]
    assert keys(text)[: len(found)] == found


def test_a_capital_tells_a_name_in_the_middle_only() -> None:
    """At the head of a sentence a capital says nothing."""
    words = {word.key: word for word in words_in("Pottery is in Lisbon. Kilns at NASA, glazes")}
    assert words["lisbon"].named is True
    assert words["glaze"].named is False
    assert words["pottery"].named is None
    assert words["kiln"].named is None
    assert words["nasa"].shouted


def corpus(*said: tuple[int, str]) -> Corpus:
    """Turns as (session, text)."""
    made = Corpus()
    for ref, (session, text) in enumerate(said, start=1):
        made.add(ref, words_in(text), session)
    return made


def found(*said: tuple[int, str], people: frozenset[str] = frozenset()) -> dict[str, Thing]:
    """The things of some turns."""
    return things_of(corpus(*said), len(said), people)


def test_three_turns_in_two_sessions() -> None:
    """Neither two turns nor one session make a thing."""
    assert not found((1, "a kiln"), (2, "a kiln"))
    assert not found((1, "a kiln"), (1, "a kiln"), (1, "a kiln"))
    assert set(found((1, "a kiln"), (1, "kilns"), (2, "the Kiln"))) == {"kiln"}
    assert not found((1, "kiln kiln kiln"), (2, "a kiln"))


def test_what_many_turns_hold_is_no_thing() -> None:
    """A word in more than a tenth of the turns, and in more than eight, tells nothing."""
    rest = [(n, "a boat") for n in range(80)]
    assert "kiln" in found(*[(n, "a kiln") for n in range(8)], *rest)
    assert "kiln" not in found(*[(n, "a kiln") for n in range(9)], *rest)
    assert "kiln" in found(*[(n, "a kiln") for n in range(9)], *rest, (99, "a boat"))


def test_people_are_no_things() -> None:
    """Names of people have concepts of their own."""
    said = [(n, "we saw Anna Smith at the kiln") for n in range(4)]
    assert set(found(*said, people=frozenset({"anna", "smith"}))) == {"kiln"}


def test_a_phrase_takes_the_place_of_its_words() -> None:
    """Two words that nearly always stand together are one thing, and chance neighbours are none."""
    said = [(n, "the guinea pig sleeps") for n in range(4)]
    assert set(found(*said)) == {"guinea pig"}
    chance = [(n, "a kiln, a boat") for n in range(6)] + [(7, "kiln boats")]
    assert set(found(*chance)) == {"kiln", "boat"}


def test_names_and_rare_things_come_first() -> None:
    """An item has at most four things: names before words, rare before frequent."""
    said = [(n, "near Lisbon, a kiln, a boat, a hammer, a violin") for n in range(3)]
    said += [(n, "a boat") for n in range(3)]
    known = found(*said)
    assert known["lisbon"].text == "Lisbon"
    assert known["boat"].weight < known["kiln"].weight < known["lisbon"].weight <= 1
    chosen = list(best(words_in(said[0][1]), known))
    assert chosen == ["lisbon", "hammer", "kiln", "violin"]
    assert len(chosen) == THINGS_PER_ITEM


def test_shown_as_it_is_written() -> None:
    """Names keep their capital, abbreviations theirs; every form leads back to its key."""
    said = [(n, "from Harry Potter at NASA to a kiln") for n in range(3)]
    assert {thing.text for thing in found(*said).values()} == {"Harry Potter", "NASA", "kiln"}
    for key in ("kiln", "harry potter", "straße", "i̇zmir"):
        assert all(form.lower() == key for form in variants(key))


def test_marks() -> None:
    """The marks are all small numbers, then lie a tenth apart; a count belongs to the last one it reaches."""
    assert [mark(count) for count in range(21)] == list(range(21))
    for count in (21, 99, 1_000, 12_345):
        assert mark(count) <= count < next_mark(mark(count))
        assert count - mark(count) <= count / 10


TURNS = [
    (n % 5, keys)
    for n, keys in enumerate(
        [
            ["kiln", "glaze"],
            ["glaze", "clay"],
            ["clay", "kiln"],
            ["boat", "sail"],
            ["sail", "mast"],
            ["mast", "boat"],
        ]
        * 4
    )
]
KNOWN = {key: Thing(key, 0.8) for key in ("kiln", "glaze", "clay", "boat", "sail", "mast", "comet")}


def test_things_said_together_are_a_theme() -> None:
    """Two groups of things that do not meet are two themes, named after their most central things."""
    turns = [(n, keys) for n, (_, keys) in enumerate(TURNS)]  # a session each: neighbours do not count
    groups = themes(turns, KNOWN)
    assert sorted(sorted(texts) for texts in groups.values()) == [
        ["boat", "mast", "sail"], ["clay", "glaze", "kiln"],
    ]  # fmt: skip
    assert all(name == ", ".join(texts[:3]) for name, texts in groups.items())
    assert themes([], KNOWN) == {}
    assert themes([(1, ["kiln", "glaze"])], KNOWN) == {}


def test_themes_are_the_same_in_every_process() -> None:
    """No order of sets or hashes shapes a theme."""
    code = (
        "from tests.tree.test_things import KNOWN, TURNS; from memos_engine.tree.themes import themes\n"
        "print(themes(TURNS, KNOWN))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(said) == 1
    assert "kiln" in said.pop()
