"""What a few lines of code find: BM25, cosine, both by rank, and both by score over windows of turns.

Each prints its hits in rank order, `[date] Speaker: text` a line, cut at the budget. No constant was
tuned. BM25 is bm25s with its defaults over stemmed words without stop words; cosine is over the dated line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import bm25s  # type: ignore[import-untyped]  # -- it carries no types
import numpy as np
from numpy.typing import NDArray

from benchmarks.locomo.data import Conversation, Turn
from benchmarks.locomo.scoring import content_terms
from benchmarks.locomo.systems import Found, Memo, cut

RRF_K = 60
"""Cormack et al., SIGIR 2009."""
WINDOW, STEP = 4, 2
"""Turns of a window, and from one window's first to the next one's."""

Scores: TypeAlias = NDArray[np.float64]
"""One number a text (N,), higher is better; not finite for what is not found."""
Scoring: TypeAlias = Callable[[str], Scores]


def line(turn: Turn, *, dated: bool = True) -> str:
    """A turn as it is printed."""
    date = f"[{turn.at.day} {turn.at:%B %Y}] " if dated else ""
    return f"{date}{turn.speaker}: {turn.text}"


class Texts:
    """Texts that are scored against a question, by words and by vectors."""

    def __init__(self, texts: Sequence[str], memo: Memo) -> None:
        self._memo = memo
        self._rows = memo.embed(texts)
        self._index = bm25s.BM25()
        self._index.index([content_terms(text) for text in texts], show_progress=False)

    def bm25(self, question: str) -> Scores:
        """Minus infinity where no word is shared."""
        terms = content_terms(question)
        scores = np.asarray(self._index.get_scores(terms), np.float64) if terms else np.zeros(len(self._rows))
        return np.where(scores > 0, scores, -np.inf)

    def cosine(self, question: str) -> Scores:
        """Cosine with the question."""
        return np.asarray(self._rows @ self._memo.embed([question])[0], np.float64)

    def rrf(self, question: str) -> Scores:
        """Sums of reciprocal ranks, cosine's and BM25's."""
        total = np.zeros(len(self._rows))
        for scores in (self.cosine(question), self.bm25(question)):
            order = best_first(scores)
            total[order] += 1 / (RRF_K + 1 + np.arange(len(order)))
        return total

    def blend(self, question: str) -> Scores:
        """Cosine plus BM25 as a share of its maximum."""
        words = np.maximum(self.bm25(question), 0)
        return self.cosine(question) + words / (words.max() or 1)


class Ranking:
    """Groups of turns in the order of their scores. A group is one hit, its date is printed once, a turn once."""

    def __init__(self, groups: Sequence[Sequence[Turn]], scores: Scoring) -> None:
        self._groups = groups
        self._scores = scores

    def ranked(self, question: str) -> list[Found]:
        scores = self._scores(question)
        found, shown = [], set[str]()
        for place in best_first(scores):
            group = self._groups[place]
            new = [turn for turn in group if turn.id not in shown]
            text = "\n".join(line(turn, dated=n == 0) for n, turn in enumerate(new))
            found.append(Found(text, tuple(turn.id for turn in group), float(scores[place])))
            shown.update(turn.id for turn in new)
        return found

    def context(self, question: str, found: Sequence[Found], budget_tokens: int) -> str:
        return printed(found, budget_tokens)

    def top_score(self, question: str) -> float:
        best = float(self._scores(question).max(initial=-np.inf))
        return best if np.isfinite(best) else 0.0


def best_first(scores: Scores) -> NDArray[np.intp]:
    """The places of what is found, best first; of equals the older first."""
    order = np.argsort(-scores, kind="stable")
    return order[np.isfinite(scores[order])]


def printed(found: Sequence[Found], budget_tokens: int) -> str:
    """Hits in rank order, cut at the budget."""
    return cut("\n".join(hit.text for hit in found if hit.text), budget_tokens)


def windows(conversation: Conversation) -> list[Sequence[Turn]]:
    """Overlapping windows within each session; the last may be shorter."""
    return [
        session[start : start + WINDOW]
        for session in conversation.sessions
        for start in range(0, max(len(session) - STEP, 1), STEP)
    ]


def baselines(conversation: Conversation, memo: Memo) -> dict[str, Ranking]:
    """The baselines over one conversation, by name."""
    turns = [[turn] for turn in conversation.turns]
    single = Texts([line(turn) for [turn] in turns], memo)
    wide = windows(conversation)
    spans = Texts(["\n".join(line(turn, dated=n == 0) for n, turn in enumerate(span)) for span in wide], memo)
    return {
        "bm25": Ranking(turns, single.bm25),
        "dense": Ranking(turns, single.cosine),
        "rrf": Ranking(turns, single.rrf),
        "window blend": Ranking(wide, spans.blend),
    }
