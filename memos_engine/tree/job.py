"""The background job `organise`: what was written since the last time goes into the tree.

People and what is said of them are placed as they come. Items get edges to the things that are known; which
words are things, and which things make a theme, is asked anew whenever the cube has grown by a tenth. Each
step is one short transaction that leaves the tree whole, and one that was done before changes nothing: an
interrupted job is simply run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from memos_engine.items import Edge
from memos_engine.shelf import TextShelf
from memos_engine.store.reading import CubeReader
from memos_engine.store.tree import WORKER, Wanted, difference, group, mention, people_topic
from memos_engine.store.tree_rows import READ_KINDS
from memos_engine.store.writing import CubeWriter
from memos_engine.tree.things import Corpus, Thing, best, mark, next_mark, things_of, variants
from memos_engine.tree.words import keys_in, words_in

ORGANISE_BATCH = 1_000
ORGANISED_TO = "organised_to"
"""Note of the change up to which items were placed."""
GROUPED = "grouped"
"""Note of the state in which things and themes were found; see `_Mark`."""
PLACED_KINDS = ("fact", "preference", "concept")
CHANGED_KINDS = (*READ_KINDS, "concept", "note", "document", "summary", "skill", "tool")
"""All but topics: an item may have been of another kind before."""

Heartbeat = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What was counted when things and themes were found last: numbers only."""

    reached: int = 0
    """The mark up to which episodes were looked at."""
    episodes: int = 0
    revision: int = 0
    themes: int = 0

    @classmethod
    def read(cls, reader: CubeReader) -> _Mark:
        return cls(*json.loads(reader.meta(GROUPED) or "[]"))

    def write(self, writer: CubeWriter) -> None:
        writer.set_meta(GROUPED, json.dumps([self.reached, self.episodes, self.revision, self.themes]))


def organise(shelf: TextShelf, heartbeat: Heartbeat) -> int:
    """Put what was written since the last time into the tree; returns how many edges that took."""
    done = 0
    while True:
        placed = _place_changed(shelf)
        if placed is None:
            placed = _regroup(shelf, heartbeat)
        if placed is None:
            return done
        done += placed
        heartbeat()


def _place_changed(shelf: TextShelf) -> int | None:
    """Place a batch of what changed; None when there is nothing left."""
    with shelf.file.read() as reader:
        since = int(reader.meta(ORGANISED_TO) or 0)
        revision = reader.revision()
        changed = reader.changed(since=since, kinds=CHANGED_KINDS, limit=ORGANISE_BATCH)
    if since >= revision:
        return None
    refs = {n for _, n in changed}
    upto = changed[-1][0] if len(changed) == ORGANISE_BATCH else revision
    return shelf.file.write(
        lambda writer: _place(writer, refs, upto),
        principal=WORKER,
        action="organise",
        detail=lambda count: {"edges": count},
    )


def _place(writer: CubeWriter, refs: set[int], upto: int) -> int:
    from memos_engine.tree import people  # noqa: PLC0415 -- networkx takes 0.1 s, and most processes never organise

    edges: list[Edge] = []
    placed = writer.of_kinds(refs, PLACED_KINDS) - writer.things_among(refs)
    if placed:
        edges = people.placements(people.load(writer, placed), people_topic(writer))
        writer.link(edges)
    count = len(edges) + mention(writer, _wanted(writer, refs))
    writer.set_meta(ORGANISED_TO, str(max(upto, 0)))
    return count


def _wanted(reader: CubeReader, refs: set[int]) -> Wanted:
    """The things that items shall mention, of those that are known."""
    texts = reader.shared_among(refs)
    words = {ref: words_in(text) for ref, text in texts.items()}
    keys = {form: key for each in words.values() for key in keys_in(each) for form in variants(key)}
    known = {keys[text]: Thing(text, weight) for text, weight in reader.things(list(keys)).items()}
    return {ref: _weights(best(words.get(ref, ()), known)) for ref in refs}


def _weights(things: dict[str, Thing]) -> dict[str, float]:
    return {thing.text: thing.weight for thing in things.values()}


def _due(reader: CubeReader) -> _Mark | None:
    """What to note when things and themes are found anew; None while the last finding serves."""
    last = _Mark.read(reader)
    revision = reader.revision()
    themes = reader.theme_count()
    grown = abs(revision - last.revision)  # so many episodes came or went at most
    same_mark = last.reached <= last.episodes - grown and last.episodes + grown < next_mark(last.reached)
    if same_mark and themes == last.themes:
        return None
    episodes = reader.shared_episodes()
    return _Mark(mark(episodes), episodes, revision, themes)


def _regroup(shelf: TextShelf, heartbeat: Heartbeat) -> int | None:
    """Find things and themes anew and write what differs; None when it is not due."""
    with shelf.file.read() as reader:
        now = _due(reader)
        last = _Mark.read(reader)
    if now is None:
        return None
    if (now.reached, now.themes) == (last.reached, last.themes):
        shelf.file.write(now.write, principal=WORKER, action="organise")
        return None
    corpus = _corpus(shelf, heartbeat)
    turns = list(corpus.episodes(now.reached))
    with shelf.file.read() as reader:
        names = reader.people(before=corpus.refs[turns[-1][0]]) if turns else []
    known = things_of(corpus, now.reached, {word for name in names for word in name.lower().split()})
    chosen = [(session, best(words, known)) for _, session, words in turns]
    used = {key: known[key] for _, things in chosen for key in things}
    done = _mention_all(shelf, corpus, used, heartbeat)

    from memos_engine.tree.themes import themes  # noqa: PLC0415 -- as above

    wanted = themes(((session, list(things)) for session, things in chosen), used)

    def work(writer: CubeWriter) -> None:
        count = group(writer, wanted)
        _Mark(now.reached, now.episodes, now.revision, count).write(writer)

    shelf.file.write(work, principal=WORKER, action="organise")
    heartbeat()
    return done


def _corpus(shelf: TextShelf, heartbeat: Heartbeat) -> Corpus:
    """The words of every item that all may see, read in short transactions."""
    corpus = Corpus()
    after = 0
    while True:
        with shelf.file.read() as reader:
            rows = reader.shared_texts(after=after, limit=ORGANISE_BATCH)
        if not rows:
            return corpus
        for ref, text, session in rows:
            corpus.add(ref, words_in(text), session)
        after = rows[-1][0]
        heartbeat()


def _mention_all(shelf: TextShelf, corpus: Corpus, known: dict[str, Thing], heartbeat: Heartbeat) -> int:
    """Let every item mention the things that it is about most."""
    done = 0
    for wanted in _batches(corpus, known):
        with shelf.file.read() as reader:
            differs = bool(difference(reader, wanted))
        if differs:
            done += shelf.file.write(
                lambda writer, wanted=wanted: mention(writer, wanted),  # type: ignore[misc] # -- a lambda with a default
                principal=WORKER, action="organise", detail=lambda count: {"edges": count},
            )  # fmt: skip
        heartbeat()
    return done


def _batches(corpus: Corpus, known: dict[str, Thing]) -> Iterator[Wanted]:
    rows = zip(corpus.refs, corpus.texts, strict=True)
    while batch := list(islice(rows, ORGANISE_BATCH)):
        yield {ref: _weights(best(words, known)) for ref, words in batch}
