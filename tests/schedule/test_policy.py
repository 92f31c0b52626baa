"""Which jobs a cube's state calls for."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from memos_engine.schedule.policy import (
    INDEX_ABOVE,
    INDEX_BATCH,
    LOOK_AGAIN,
    CubeFacts,
    ModelFacts,
    jobs_due,
)

counts = st.integers(0, 100)


def kinds(facts: CubeFacts, *, index_above: int = INDEX_ABOVE, index_batch: int = INDEX_BATCH) -> list[str]:
    """Return the kinds of the jobs that are due."""
    return [job.kind for job in jobs_due(facts, index_above=index_above, index_batch=index_batch)]


def test_a_cube_at_rest_calls_for_nothing() -> None:
    """Neither a new cube nor one whose projections are up to date has a job due."""
    assert kinds(CubeFacts("c", 0)) == []
    assert kinds(CubeFacts("c", 9, organised_to=9, vectors=5, unindexed=5)) == []


def test_the_index_waits_for_size_and_batch() -> None:
    """More than the limit, and a whole batch: either alone is not enough."""
    assert kinds(CubeFacts("c", 0, vectors=INDEX_ABOVE + 1, unindexed=INDEX_BATCH)) == ["index"]
    assert kinds(CubeFacts("c", 0, vectors=INDEX_ABOVE, unindexed=INDEX_ABOVE)) == []
    assert kinds(CubeFacts("c", 0, vectors=INDEX_ABOVE + 1, unindexed=INDEX_BATCH - 1)) == []
    assert kinds(CubeFacts("c", 0, vectors=11, unindexed=3), index_above=10, index_batch=3) == ["index"]


def test_what_was_erased_leaves_the_index_first() -> None:
    """One erased vector is enough, in a small cube too, and goes before everything else."""
    facts = CubeFacts("c", 5, 4, vectors=INDEX_ABOVE + 1, unindexed=9_999, erased_in_index=1, expired=1)
    assert kinds(facts) == ["index", "expire", "organise"]
    assert kinds(CubeFacts("c", 0, erased_in_index=1)) == ["index"]


@given(st.builds(CubeFacts, st.just("c"), counts, counts, counts, counts, counts, counts))
def test_jobs_follow_from_facts(facts: CubeFacts) -> None:
    """Each kind is due by its own condition alone, once, in order of priority."""
    due = jobs_due(facts, index_above=50, index_batch=10)
    wanted = {
        "index": facts.erased_in_index > 0 or (facts.vectors > 50 and facts.unindexed >= 10),
        "expire": facts.expired > 0,
        "organise": facts.revision > facts.organised_to,
    }
    assert sorted(job.kind for job in due) == sorted(kind for kind, is_due in wanted.items() if is_due)
    priorities = [job.priority for job in due]
    assert priorities == sorted(priorities, reverse=True)
    assert all(job.cube == "c" and job.key == "" and job.payload == {} for job in due)


REST = timedelta(minutes=10)
USED = (1_000_000, 3.0)


def looks(*models: ModelFacts, used: tuple[int, float] = USED, blocks: int = 0) -> list[str]:
    """Return the keys of the models whose blocks are due to be looked at."""
    facts = CubeFacts("c", 0, blocks=blocks, used=used, models=models)
    due = jobs_due(facts, look_rest=REST)
    assert all(job.kind == "activate" and job.payload == {} for job in due)
    return [job.key for job in due]


def test_blocks_are_looked_at_for_each_model_at_hand() -> None:
    """Once something was used or is a block; without a model, or where neither is so, never."""
    assert looks() == []
    assert looks(ModelFacts("m"), ModelFacts("n")) == ["m", "n"]
    assert looks(ModelFacts("m"), used=(0, 0.0)) == []
    assert looks(ModelFacts("m"), used=(0, 0.0), blocks=1) == ["m"]


def test_blocks_are_looked_at_again_after_uses_and_a_rest_or_a_day() -> None:
    """Uses alone do not suffice within the rest, nor time alone within a day."""
    assert looks(ModelFacts("m", USED, REST)) == []
    assert looks(ModelFacts("m", (0, 0.0), REST)) == ["m"]
    assert looks(ModelFacts("m", (USED[0], 2.0), REST)) == ["m"]  # used again at the same moment
    assert looks(ModelFacts("m", (0, 0.0), REST - timedelta(seconds=1))) == []
    assert looks(ModelFacts("m", USED, LOOK_AGAIN)) == ["m"]


def test_a_look_at_blocks_comes_last() -> None:
    """It saves time only, and takes some of a model's: everything else is more urgent."""
    facts = CubeFacts("c", 5, 4, erased_in_index=1, expired=1, used=USED, models=(ModelFacts("m"),))
    assert kinds(facts) == ["index", "expire", "organise", "activate"]
    priorities = [job.priority for job in jobs_due(facts)]
    assert priorities == sorted(priorities, reverse=True)
