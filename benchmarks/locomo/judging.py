"""Asks every system every question and keeps what each answer was worth. Prints progress, writes nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.locomo import scoring
from benchmarks.locomo.ablation import Variant
from benchmarks.locomo.baselines import baselines
from benchmarks.locomo.data import Conversation, Question
from benchmarks.locomo.ours import Ours, Ranked, Varied, capture
from benchmarks.locomo.systems import Memo, System
from memos_engine import MemOS

COVERAGE_BUDGET = 1000
SURE = ("ours", "bm25", "dense")
"""Systems whose top score is judged for abstention: ours, and the raw scores of the retrievers."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one system's answer to one question was worth."""

    category: int
    recalls: tuple[float, ...]
    """Evidence recall at each budget, in the order of the budgets."""
    coverage: float | None
    """None: the answer has no content words."""
    rank: int | None
    """Of the first turn that is evidence, among the distinct turns of the hits. None: none is."""
    hit_rank: int | None
    """Of the first hit that holds evidence."""


@dataclass(slots=True)
class TopScores:
    """Top scores of one system: how sure it was."""

    known: list[float] = field(default_factory=list)
    """Questions to their own conversation."""
    foreign: list[float] = field(default_factory=list)
    """The same to the next conversation."""
    renamed: list[float] = field(default_factory=list)
    """The same to the next conversation, its speakers' names in place of their own's."""
    adversarial: list[float] = field(default_factory=list)
    """Adversarial questions to their own conversation."""


@dataclass(slots=True)
class Outcome:
    """All of one system."""

    judged: list[Judged] = field(default_factory=list)
    sure: TopScores | None = None
    """None: its scores are not judged."""
    recalls: list[tuple[int, float]] = field(default_factory=list)
    """Budget and seconds of each recall; ours only."""


def outcomes(
    conversations: Sequence[Conversation],
    budgets: Sequence[int],
    memo: Memo,
    memos: MemOS,
    variants: Mapping[str, Variant],
) -> dict[str, Outcome]:
    """Ask all systems, and ours with the recipe of each variant, all questions; by the system's name."""
    held = [_systems(conversation, n, memo, memos, variants) for n, conversation in enumerate(conversations)]
    found = {name: Outcome(sure=TopScores() if name in SURE else None) for name in held[0]}
    for n, (conversation, systems) in enumerate(zip(conversations, held, strict=True)):
        start = time.perf_counter()
        words = {turn.id: scoring.content_words(turn.text) for turn in conversation.turns}
        other = (n + 1) % len(held)
        for name, system in systems.items():
            outcome = found[name]
            outcome.judged += [_judged(q, system, budgets, words) for q in conversation.asked()]
            if type(system) is Ours:
                outcome.recalls += system.recalls
            if outcome.sure:
                _ask_for_sureness(outcome.sure, conversation, system)
            if outcome.sure and other != n:
                _ask_another(outcome.sure, conversation, conversations[other], held[other][name])
        asked = len(conversation.asked())
        _progress(f"{conversation.name}: {asked} questions asked in {time.perf_counter() - start:.1f} s")
    return found


def _systems(
    conversation: Conversation, n: int, memo: Memo, memos: MemOS, variants: Mapping[str, Variant]
) -> dict[str, System]:
    start = time.perf_counter()
    memo.embed([question.text for question in conversation.questions])
    cube = capture(memos, conversation, f"talk-{n}")
    memos.drain()  # the tree
    systems: dict[str, System] = {
        "ours": Ours(cube),
        "ours ranked": Ranked(cube),
        **{name: Varied(cube, variant) for name, variant in variants.items()},
        **baselines(conversation, memo),
    }
    turns = len(conversation.turns)
    _progress(
        f"{conversation.name}: {turns} turns embedded and captured in {time.perf_counter() - start:.1f} s"
    )
    return systems


def _judged(
    question: Question, system: System, budgets: Sequence[int], words: Mapping[str, frozenset[str]]
) -> Judged:
    hits = system.ranked(question.text)
    gold = [words[turn] for turn in question.evidence]
    recalls, coverage = [], None
    for budget in budgets:
        context = system.context(question.text, hits, budget)
        standing = scoring.content_words(context)
        recalls.append(sum(scoring.counts(turn, standing) for turn in gold) / len(gold))
        if budget == COVERAGE_BUDGET:
            coverage = scoring.coverage(
                scoring.answer_words(question.answer), scoring.covering_words(scoring.unnumbered(context))
            )
    ranking = [hit.turns for hit in hits]
    rank = scoring.first_rank(scoring.distinct_turns(ranking), question.evidence)
    hit_rank = scoring.first_rank(ranking, question.evidence)
    return Judged(question.category, tuple(recalls), coverage, rank, hit_rank)


def _ask_for_sureness(scores: TopScores, conversation: Conversation, system: System) -> None:
    scores.known += [system.top_score(question.text) for question in conversation.asked()]
    scores.adversarial += [system.top_score(question.text) for question in conversation.adversarial()]


def _ask_another(scores: TopScores, conversation: Conversation, other: Conversation, system: System) -> None:
    names = dict(zip(conversation.speakers, other.speakers, strict=True))
    for question in conversation.asked():
        scores.foreign.append(system.top_score(question.text))
        scores.renamed.append(system.top_score(scoring.renamed(question.text, names)))


def _progress(told: str) -> None:
    print(f"  {told}", file=sys.stderr, flush=True)
