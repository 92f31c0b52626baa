"""A cube on SQLite, page and Chroma does what its model does, whatever happens in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from memos_engine import (
    CaptureResult,
    EmbedderMismatch,
    ItemNotFound,
    MemoryItem,
    MemosError,
    Message,
)
from memos_engine.recall.recipe import Recipe
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from memos_engine.testing.model_cube import ModelCube
from tests.stateful.second_process import Call, Place, SecondProcess

INDEX_ABOVE = 4
DIMS = (32, 48, 64)
RARE = [f"qx{n}z" for n in range(12)]
"""Words without another form: a stemmer leaves them alone."""
SIMILARITY_MIN = Recipe().similarity_min
START = datetime(2025, 6, 1, 12, tzinfo=UTC)
KNOBS = settings(
    max_examples=20,
    stateful_step_count=35,
    deadline=None,
    print_blob=True,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # to shrink takes longer than a test may: add it by hand
    suppress_health_check=list(HealthCheck),
)

rare = st.sampled_from(RARE)
plain = st.builds(
    "{} {} {}".format,
    rare,
    st.sampled_from(["and the kettle", "beside a window", "雪が降った", "sold two boats", "im Garten"]),
    rare,
)
telling = st.builds("{} {}".format, st.sampled_from(["I live in Lisbon.", "I'm allergic to"]), rare)
texts = st.one_of(plain, plain, telling)
ids = st.one_of(st.none(), st.sampled_from(["m1", "m2", "m3", "m4", "m5"]))
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant"]),
    texts,
    id=ids,
    name=st.sampled_from([None, "Anna", "Tom"]),
    at=st.one_of(st.none(), st.sampled_from([START - timedelta(days=2), START + timedelta(minutes=5)])),
)
threads = st.sampled_from(["", "t"])
places = st.tuples(st.sampled_from([("n",), ("n", "deep")]), st.sampled_from(["k", "l"]))
values = st.builds(lambda word, n: {"word": word, "n": n}, rare, st.integers(0, 9))
ttls = st.sampled_from([None, None, timedelta(minutes=10)])
elsewhere = st.sampled_from([False, False, True])
"""Whether the other process makes the call."""
which = st.integers(0, 10**6)


class CubeMachine(RuleBasedStateMachine):
    """The real cube and its model, side by side."""

    other: ClassVar[SecondProcess]
    seen: ClassVar[Counter[str]] = Counter()
    """What happened over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cube-machine-"))
        self.place = Place(self.folder / "r0", DIMS[0], INDEX_ABOVE)
        self.clock = FrozenClock(START)
        self.memos = self.place.open(self.clock)
        self.cube = self.memos.cube(self.place.cube)
        self.fresh: deque[str] = deque()
        embedder = HashEmbedder(self.place.dim)
        self.model = ModelCube(self.cube.id, embedder, self.clock, new_id=self.fresh.popleft)
        self.gone: list[str] = []
        self.calls: list[tuple[list[Message], str, str]] = []
        self.revision = 0
        self.steps = 0

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.other.rest()
        self.memos.close()
        shutil.rmtree(self.folder)

    # Writes

    @initialize(
        said=st.lists(texts, min_size=INDEX_ABOVE + 1, max_size=3 * INDEX_ABOVE), indexed=st.booleans()
    )
    def begin(self, said: list[str], indexed: bool) -> None:
        """Enough for an index, which is there from the start or made by a later drain."""
        self.add(said, None, far=False)
        if indexed:
            self.drain(far=False)

    @rule(said=st.lists(messages, min_size=1, max_size=4), thread=threads, whole=st.booleans(), far=elsewhere)
    def capture(self, said: list[Message], thread: str, whole: bool, far: bool) -> None:
        """New messages, some with ids that were used before, for the same content or for another."""
        self._capture(said, far, thread=thread, whole_thread=whole)
        self.calls.append((said, thread, ""))

    @precondition(lambda self: self.calls)
    @rule(n=which, far=elsewhere, whole=st.booleans())
    def capture_again(self, n: int, far: bool, whole: bool) -> None:
        """What was handed over before, with its key if it had one."""
        said, thread, key = self.calls[n % len(self.calls)]
        if key:
            whole = False
        self._capture(said, far, thread=thread, whole_thread=whole, idempotency_key=key or None)

    @rule(said=st.lists(messages, min_size=1, max_size=2), key=st.sampled_from(["a", "b"]), far=elsewhere)
    def capture_with_key(self, said: list[Message], key: str, far: bool) -> None:
        """A call with an idempotency key, new or used before."""
        self._capture(said, far, idempotency_key=key)
        self.calls.append((said, "", key))

    def _capture(self, said: list[Message], far: bool, **options: Any) -> None:
        def modelled(result: CaptureResult) -> CaptureResult:
            known = {item.id for item in self.model.items()} | set(self.gone)
            new = [id_ for id_ in dict.fromkeys(result.episodes) if id_ not in known]
            self.fresh.extend([*new, *(id_ for id_ in result.derived if id_ not in known)])
            return self.model.capture(said, **options)

        found = self._both(Call("capture", [said], options), far, modelled)
        if found is not None:
            real, model = found
            assert len(real.forgotten) == len(model.forgotten)
            assert replace(real, revision=0, forgotten=()) == replace(model, forgotten=())
            self.seen["derived"] += len(real.derived)

    @rule(said=st.lists(texts, min_size=1, max_size=5), ttl=ttls, far=elsewhere)
    def add(self, said: list[str], ttl: timedelta | None, far: bool) -> None:
        """Items as they are, some of which will expire."""

        def modelled(real: list[MemoryItem]) -> list[MemoryItem]:
            self.fresh.extend(item.id for item in real)
            return [self.model.add(text, ttl=ttl) for text in said]

        found = self._both(Call("add", [said], {"ttl": ttl}), far, modelled)
        assert found is not None
        assert found[0] == found[1]

    @precondition(lambda self: self.model.items())
    @rule(
        n=which,
        far=elsewhere,
        expect=st.sampled_from([None, None, 1, 2]),
        fields=st.one_of(
            st.fixed_dictionaries({"text": plain}),
            st.fixed_dictionaries({"tags": st.sampled_from([("x",), ("y", "z")])}),
            st.fixed_dictionaries({"state": st.sampled_from(["archived", "activated"])}),
            st.fixed_dictionaries({"ttl": ttls}),
            st.fixed_dictionaries({"event_at": st.sampled_from([None, START])}),
            st.fixed_dictionaries({"kind": st.sampled_from(["note", "episode"]), "priority": st.just(2.0)}),
        ),
    )
    def update(self, n: int, far: bool, expect: int | None, fields: dict[str, Any]) -> None:
        """Another version of any item, of words, state or time; sometimes of a version that is gone."""
        item = self._nth(n)
        if item.key is not None:
            fields = {"tags": ("kv",), "priority": float(n % 3)}
        call = Call("update", [item.id], {"expect_version": expect, **fields})
        found = self._both(call, far, lambda _: self.model.update(item.id, expect_version=expect, **fields))
        if found is not None:
            assert found[0] == found[1]

    @precondition(lambda self: self.model.items())
    @rule(n=which, more=st.booleans(), sources=st.booleans(), far=elsewhere)
    def forget(self, n: int, more: bool, sources: bool, far: bool) -> None:
        """One item or two, with what hangs on them."""
        chosen = [self._nth(n).id, *([self._nth(n // 7).id] if more else [])]

        def modelled(_: object) -> tuple[set[str], int]:
            return self.model.forget(chosen, sources=sources)

        found = self._both(Call("forget", [chosen], {"sources": sources}), far, modelled)
        assert found is not None
        erased, (items, versions) = found
        assert items <= set(erased.items)
        assert erased.versions == versions
        assert not {item.id for item in self.model.items()} & set(erased.items), "the rest are nodes"
        self.gone += sorted(items)

    @rule(place=places, value=values, ttl=ttls, index=st.sampled_from([None, None, False]), far=elsewhere)
    def put(
        self, place: tuple[tuple[str, ...], str], value: dict[str, Any], far: bool, **options: Any
    ) -> None:
        """A key-value entry, new or in place of another, that searches find or not."""

        def modelled(_: None) -> None:
            if self.model.entry(*place) is None:
                self.fresh += [item.id for item in self._live() if (item.namespace, item.key) == place]
            self.model.put(*place, value, **options)

        self._both(Call("kv.put", [*place, value], options), far, modelled)
        entry = self.cube.kv.get(*place)
        assert entry is not None
        assert entry.value == value

    @rule(place=places, far=elsewhere)
    def delete(self, place: tuple[tuple[str, ...], str], far: bool) -> None:
        """The entry under a key, if there is one."""
        held = self.model.entry(*place)
        self._both(Call("kv.delete", place), far, lambda _: self.model.delete(*place))
        assert self.cube.kv.get(*place) is None
        self.gone += [held] if held else []

    # Time, jobs, upkeep

    @rule(minutes=st.sampled_from([1, 6, 90]))
    def wait(self, minutes: int) -> None:
        """Time goes by; some of what was written is over."""
        self.clock.advance(timedelta(minutes=minutes))

    @rule(far=elsewhere)
    def drain(self, far: bool) -> None:
        """Run all jobs: index, organise, expire."""
        self._call(Call("memos.drain", (), {"timeout_s": 30.0}), far)
        self.model.expire()
        self.seen["indexed"] += self.cube.stats().indexed_to > 0

    @rule()
    def rebuild(self) -> None:
        """Make every projection anew."""
        assert self.cube.rebuild().ok

    @rule(dim=st.sampled_from(DIMS))
    def reembed(self, dim: int) -> None:
        """Open with another embedder; who still has the old one is told so."""
        self.memos.close()
        before, self.place = self.place, replace(self.place, dim=dim)
        self.memos = self.place.open(self.clock)
        self.memos.reembed(self.place.cube)
        self.cube = self.memos.cube(self.place.cube)
        self.model.embedder = HashEmbedder(dim)
        if dim != before.dim and self.cube.stats().embedder is not None:
            self.seen["reembedded"] += 1
            for call in (Call("search", ["kettle"]), Call("add", ["kettle"])):
                with pytest.raises(EmbedderMismatch):
                    self.other.call(before, self.clock(), call)

    @rule()
    def reopen(self) -> None:
        """Close in order and open again."""
        self.memos.close()
        self._open()

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files as they are, nothing closed: what a power cut leaves."""
        before, self.place = self.place, replace(self.place, root=self.folder / f"r{self.steps}")
        shutil.copytree(before.root, self.place.root)
        self.memos.close()
        self._open()

    @rule()
    def kill_the_other(self) -> None:
        """The other process dies; the next call to it starts another."""
        self.seen["killed"] += 1
        self.other.kill()

    def _open(self) -> None:
        self.memos = self.place.open(self.clock)
        self.cube = self.memos.cube(self.place.cube)

    # Always

    @invariant()
    def whole(self) -> None:
        """The cube says it is, and its log only grows."""
        report = self.cube.check()
        assert report.ok, report.problems
        revision = self.cube.stats().revision
        assert revision >= self.revision
        self.revision = revision
        self.steps += 1

    @invariant()
    def same_items(self) -> None:
        """Lists, items and histories are the model's; what was forgotten is not there."""
        assert not self.fresh, "the model asked for every new id"
        assert self._live() == self.model.live()
        for item in self.model.items():
            assert self.cube.get(item.id) == item
            assert self.cube.history(item.id) == self.model.history(item.id)
        for item_id in self.gone[-3:]:
            with pytest.raises(ItemNotFound):
                self.cube.get(item_id)

    @invariant()
    def found_by_meaning(self) -> None:
        """A text finds what lies near, by the same cosine as a scan over everything."""
        live = self.model.live()
        query = live[self.steps % len(live)].text if live else "kettle"
        wanted = {
            id_: score for id_, score in self.model.nearest(query).items() if score > SIMILARITY_MIN - 1e-3
        }
        found = self._found(query, "dense")
        assert found == pytest.approx({id_: wanted[id_] for id_ in wanted if id_ in found}, abs=1e-4)
        assert all(score < SIMILARITY_MIN + 1e-3 for id_, score in wanted.items() if id_ not in found)

    @invariant()
    def found_by_word(self) -> None:
        """A rare word finds the live items that hold it, and no others."""
        word = RARE[self.steps % len(RARE)]
        assert set(self._found(word, "keyword")) == self.model.holding(word)

    # How

    def _found(self, query: str, retriever: str) -> dict[str, float]:
        hits = self.cube.search(query, limit=1_000)
        reasons = [(hit.item.id, reason) for hit in hits for reason in hit.why]
        return {item_id: reason.score for item_id, reason in reasons if reason.retriever == retriever}

    def _live(self) -> list[MemoryItem]:
        return self.cube.list(limit=10_000)

    def _nth(self, n: int) -> MemoryItem:
        items = self.model.items()
        return items[n % len(items)]

    def _call(self, call: Call, far: bool) -> Any:
        if far:
            self.seen["far"] += 1
            return self.other.call(self.place, self.clock(), call)
        return call.on(self.memos, self.cube)

    def _both(self, call: Call, far: bool, modelled: Callable[[Any], Any]) -> tuple[Any, Any] | None:
        """What the call returns and what the model says; None when both refuse, for the same reason."""
        try:
            real = self._call(call, far)
        except MemosError as exc:
            self.seen[type(exc).__name__] += 1
            with pytest.raises(type(exc)):
                modelled(CaptureResult(()))
            return None
        return real, modelled(real)


@pytest.fixture
def other() -> Iterator[SecondProcess]:
    """Another process, for all examples."""
    process = SecondProcess()
    yield process
    process.kill()


def test_a_cube_does_what_its_model_does(other: SecondProcess) -> None:
    """Captures, writes, jobs, crashes and a second process, in any order, leave what the model says."""
    CubeMachine.other = other
    CubeMachine.seen.clear()
    run_state_machine_as_test(CubeMachine, settings=KNOBS)
    wanted = ("indexed", "derived", "far")  # what every run of this length meets
    assert not [what for what in wanted if not CubeMachine.seen[what]], CubeMachine.seen
