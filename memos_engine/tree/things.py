"""Which words of a cube are THINGS: specific, recurring, said in more than one session. Pure.

What is a thing depends on the first episodes of a cube, up to a mark that grows by a tenth at a time: so the
answer does not depend on when it was asked, and the cost of asking stays in proportion to what was captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from memos_engine.tree.words import Word, held, keys_in

EPISODES_MIN = 3
"""Episodes that must hold a thing."""
SESSIONS_MIN = 2
EPISODES_MAX = (8, 10)
"""A thing stands in at most so many episodes, or in one of so many, whichever is more."""
THINGS_PER_ITEM = 4
PHRASE_SHARE = 3
"""Two words are one phrase when they stand together in one of so many episodes that hold the rarer of them."""
SWALLOWED = (3, 4)
"""A word counts for nothing beside a phrase that takes this share of its episodes."""
PLAIN = 0.8
"""Weight of a word that is no name, as a share of a name's."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A word or a phrase that many turns are about."""

    text: str
    """As it is shown."""
    weight: float
    """0..1; rarer ones and names have more."""


@dataclass(slots=True)
class Corpus:
    """The texts of a cube, as words, in the order in which they came."""

    refs: list[int] = field(default_factory=list)
    texts: list[list[Word]] = field(default_factory=list)
    sessions: list[int | None] = field(default_factory=list)
    """Of an episode; None for what is none."""

    def add(self, ref: int, words: list[Word], session: int | None) -> None:
        """One more item."""
        self.refs.append(ref)
        self.texts.append(words)
        self.sessions.append(session)

    def episodes(self, upto: int) -> Iterator[tuple[int, int, list[Word]]]:
        """Place, session and words of the first episodes."""
        left = upto
        for place, session in enumerate(self.sessions):
            if session is None:
                continue
            if left == 0:
                return
            left -= 1
            yield place, session, self.texts[place]


def mark(episodes: int) -> int:
    """How many of a cube's first episodes are looked at: the last step of a ladder that they reach."""
    reached = 0
    while (step := next_mark(reached)) <= episodes:
        reached = step
    return reached


def next_mark(reached: int) -> int:
    """The step of the ladder above one: a tenth higher."""
    return reached + max(1, reached // 10)


def things_of(corpus: Corpus, upto: int, people: Collection[str]) -> dict[str, Thing]:
    """The things that the first `upto` episodes are about, by key.

    Args:
        corpus: What the cube holds.
        upto: A mark.
        people: Lower-case words of people's names, which have concepts of their own.
    """
    counts = _counted(corpus, upto)
    most = max(EPISODES_MAX[0], upto // EPISODES_MAX[1])
    able = {
        key: count
        for key, count in counts.episodes.items()
        if EPISODES_MIN <= count <= most
        and key in counts.several
        and not any(word in people for word in key.split(" "))
    }
    swallowed: set[str] = set()
    for key in [key for key in able if " " in key]:
        parts = key.split(" ")
        if able[key] * PHRASE_SHARE < min(counts.episodes[part] for part in parts):
            del able[key]
            continue
        share, whole = SWALLOWED
        swallowed.update(part for part in parts if able[key] * whole >= counts.episodes[part] * share)
    return {
        key: Thing(counts.shown(key), _weight(count, name=counts.is_name(key)))
        for key, count in sorted(able.items())
        if key not in swallowed
    }


def best(words: Sequence[Word], known: Mapping[str, Thing]) -> dict[str, Thing]:
    """The things that an item is about most, best first."""
    found = held(words, known)
    ranked = sorted(found.items(), key=lambda pair: (-pair[1].weight, " " not in pair[0], pair[0]))
    return dict(ranked[:THINGS_PER_ITEM])


def variants(key: str) -> tuple[str, ...]:
    """The forms in which a thing may be shown."""
    return tuple(form for form in (key, key.title(), key.upper()) if form.lower() == key)


@dataclass(slots=True)
class _Counts:
    episodes: Counter[str] = field(default_factory=Counter)
    several: set[str] = field(default_factory=set)
    """What was said in more than one session."""
    named: Counter[str] = field(default_factory=Counter)
    plain: Counter[str] = field(default_factory=Counter)
    shouted: Counter[str] = field(default_factory=Counter)

    def is_name(self, key: str) -> bool:
        return all(self.named[word] > self.plain[word] for word in key.split(" "))

    def shown(self, key: str) -> str:
        forms = variants(key)
        words = key.split(" ")
        if all(2 * self.shouted[word] > self.named[word] + self.plain[word] for word in words):
            return forms[-1]
        return forms[min(1, len(forms) - 1)] if self.is_name(key) else key


def _counted(corpus: Corpus, upto: int) -> _Counts:
    counts = _Counts()
    first: dict[str, int] = {}
    for _, session, words in corpus.episodes(upto):
        keys = set(keys_in(words))
        counts.episodes.update(keys)
        for key in keys:
            if first.setdefault(key, session) != session:
                counts.several.add(key)
        for word in words:
            if word.named is not None:
                (counts.named if word.named else counts.plain)[word.key] += 1
            if word.shouted:
                counts.shouted[word.key] += 1
    return counts


def _weight(count: int, *, name: bool) -> float:
    """By the power of two that the count reaches: a few mentions more change nothing that is stored."""
    rare = 2 / (count.bit_length())
    return round(min(1.0, rare) * (1.0 if name else PLAIN), 4)
