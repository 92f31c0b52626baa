"""What a process remembers of the models it met: weakly, by cube and key."""

from __future__ import annotations

import gc
from datetime import timedelta

from memos_engine.blocks.met import Met
from memos_engine.schedule.policy import ModelFacts
from memos_engine.testing.fakes import FrozenClock
from tests.blocks.hot import paced_model

USED = (7, 1.0)


def test_facts_are_of_the_models_that_are_still_there() -> None:
    """A cube has those it was used with; one that nobody holds is no fact, and comes back with its like."""
    met, clock = Met(), FrozenClock()
    first, second = paced_model(), paced_model(seed=1)
    met.add("c", first)
    met.add("c", second)
    met.add("d", second)
    one, two = first.key.digest, second.key.digest
    assert [facts.digest for facts in met.facts("c", clock())] == [one, two]
    assert [facts.digest for facts in met.facts("d", clock())] == [two]
    assert met.facts("e", clock()) == ()
    assert met.model(one) is first
    del first
    gc.collect()
    assert met.model(one) is None
    assert [facts.digest for facts in met.facts("c", clock())] == [two]
    again = paced_model()
    met.add("d", again)
    assert [facts.digest for facts in met.facts("c", clock())] == [one, two]


def test_a_look_is_remembered_until_the_cube_is_dropped() -> None:
    """What was seen and how long ago; meeting the model again changes neither."""
    met, clock = Met(), FrozenClock()
    model = paced_model()
    met.add("c", model)
    digest = model.key.digest
    assert met.facts("c", clock()) == (ModelFacts(digest),)
    met.looked("c", digest, USED, clock())
    met.add("c", model)
    clock.advance(timedelta(hours=1))
    assert met.facts("c", clock()) == (ModelFacts(digest, USED, timedelta(hours=1)),)
    met.drop("c")
    met.looked("c", digest, USED, clock())
    assert met.facts("c", clock()) == ()
