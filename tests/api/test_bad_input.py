"""What cannot be taken is refused with a typed error that names the cure, and the store is as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from memos_engine import (
    AccessDenied,
    BadInput,
    BadLimit,
    BadName,
    BadRoot,
    BadText,
    BadTime,
    CubeNotFound,
    ItemNotFound,
    MemCube,
    MemOS,
    MemosError,
    Message,
    NotFound,
    Scope,
    Source,
    VersionConflict,
)
from memos_engine.testing.fakes import HashEmbedder

BLANK = ["", " ", "\n\t ", "\u3000\u00a0"]
NO_TEXT = ["a\0b", "\0", "a\ud800b", "\udfff", cast("str", None), cast("str", 7), cast("str", b"bytes")]
NO_LIMIT = [0, -1, -(10**9), 10**9, 10**30, 10**5000, True, 1.5, math.nan, math.inf, "5", None]
NO_NAME = ["", "  ", "a\0b", "a\nb", "a\ud800", "x" * 513, cast("str", 5), cast("str", None)]


def state(cube: MemCube) -> tuple[object, ...]:
    """What must be equal when nothing was written."""
    stats = cube.stats()
    return stats.revision, stats.items, stats.edges, stats.versions, stats.vectors, cube.list(limit=100)


@contextmanager
def refused(cube: MemCube, error: type[MemosError], cure: str) -> Iterator[None]:
    """The block is refused with this error and this cure, and the cube is as it was, and whole."""
    before = state(cube)
    with pytest.raises(error, match=cure):
        yield
    assert state(cube) == before
    assert cube.check().ok


@pytest.fixture
def filled(cube: MemCube) -> MemCube:
    """A cube that holds something."""
    cube.capture([Message("user", "I live in Lisbon", id="m1")], thread="t")
    cube.add("Prefers window seats", kind="preference")
    cube.kv.put(("n",), "k", {"a": 1})
    return cube


TAKES_TEXT: dict[str, Callable[[MemCube, str], object]] = {
    "capture": lambda cube, text: cube.capture([Message("user", "fine"), Message("user", text)]),
    "add": lambda cube, text: cube.add(text),
    "add several": lambda cube, text: cube.add(["fine", text]),
    "update": lambda cube, text: cube.update(cube.list()[0].id, text=text),
    "search": lambda cube, text: cube.search(text),
    "recall": lambda cube, text: cube.recall(text),
}


@pytest.mark.parametrize("call", TAKES_TEXT)
@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_blank_text(filled: MemCube, call: str, text: str) -> None:
    """Blank text is refused: there is nothing to remember or to look for."""
    with refused(filled, BadText, "leave it out"):
        TAKES_TEXT[call](filled, text)


@pytest.mark.parametrize("call", TAKES_TEXT)
@pytest.mark.parametrize("text", NO_TEXT, ids=ascii)
def test_what_is_no_text(filled: MemCube, call: str, text: str) -> None:
    """NUL, lone surrogates and what is no str are refused, and the message tells how to repair them."""
    with refused(filled, BadText, r"remove it with|repair it with|hand over"):
        TAKES_TEXT[call](filled, text)


def test_a_megabyte_is_taken(filled: MemCube) -> None:
    """One text of 1 MB is kept verbatim and found by its last word; a recall clips it to its budget."""
    text = "filler words " * 90_000 + "quokka"
    assert len(text) > 2**20
    kept = filled.capture([Message("user", text)]).episodes[0]
    added = filled.add(text)
    assert filled.get(kept).text == text
    assert {hit.item.id for hit in filled.search("quokka")} >= {kept, added.id}
    context = filled.recall("quokka", budget_tokens=500)
    assert 0 < context.tokens <= 500
    assert filled.check().ok


@pytest.mark.parametrize("sign", ["a", "界"])
def test_five_megabytes_are_refused(filled: MemCube, sign: str) -> None:
    """A text beyond 4 MiB, counted in bytes, is a document: it is to be split."""
    text = sign * (5 * 2**20 // len(sign.encode()))
    for call in TAKES_TEXT.values():
        with refused(filled, BadText, "split it"):
            call(filled, text)
    with refused(filled, BadText, "split it"):
        filled.kv.put(("n",), "k", {"text": text})


@pytest.mark.parametrize("field", ["role", "id", "name"])
@pytest.mark.parametrize("name", NO_NAME, ids=ascii)
def test_names_of_messages(filled: MemCube, field: str, name: str) -> None:
    """Role, id and speaker of a message are names."""
    if field != "role" and name is None:
        return
    fields: dict[str, Any] = {"role": "user", "text": "hello", field: name}
    with refused(filled, BadName, r"must have|remove it|repair it|hand over"):
        filled.capture([Message("user", "fine"), Message(**fields)])


@pytest.mark.parametrize(
    "messages", [None, 5, "text", b"text", Message("user", "x"), ["text"], [None], [{}]], ids=repr
)
def test_what_are_no_messages(filled: MemCube, messages: Any) -> None:
    """What is no list of messages is refused."""
    with refused(filled, BadInput, r"hand over a list|make it a Message"):
        filled.capture(messages)


@pytest.mark.parametrize("thread", [cast("str", 5), "a\nb", "x" * 600])
def test_threads_and_keys_are_names(filled: MemCube, thread: str) -> None:
    """A thread and an idempotency key are names."""
    with refused(filled, BadName, r"remove it|hand over|must have"):
        filled.capture([Message("user", "hello")], thread=thread)
    with refused(filled, BadName, r"remove it|hand over|must have"):
        filled.capture([Message("user", "hello")], idempotency_key=thread)


NO_TIME = [datetime(2025, 5, 1), "2025-05-01", 1_700_000_000]  # noqa: DTZ001 -- a naive time is the case


@pytest.mark.parametrize("at", NO_TIME, ids=str)
def test_naive_times(filled: MemCube, at: Any) -> None:
    """A time without a zone, or that is no datetime, is refused; nothing guesses the zone."""
    calls: list[Callable[[], object]] = [
        lambda: filled.capture([Message("user", "hello", at=at)]),
        lambda: filled.add("hello", event_at=at),
        lambda: filled.add("hello", valid_from=at),
        lambda: filled.add("hello", valid_to=at),
        lambda: filled.update(filled.list()[0].id, event_at=at),
        lambda: filled.search("hello", since=at),
        lambda: filled.recall("hello", until=at),
        lambda: filled.list(since=at),
    ]
    for call in calls:
        with refused(filled, BadTime, r"say which|parse it with"):
            call()


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta.max, cast("timedelta", 60)])
def test_times_to_live(filled: MemCube, ttl: timedelta) -> None:
    """A time to live is positive and ends within the calendar."""
    for call in (
        lambda: filled.add("hello", ttl=ttl),
        lambda: filled.update(filled.list()[0].id, ttl=ttl),
        lambda: filled.kv.put(("n",), "k", {"a": 2}, ttl=ttl),
    ):
        with refused(filled, BadTime, r"None for ever|leave it out"):
            call()


@pytest.mark.parametrize(
    "limit", NO_LIMIT, ids=lambda limit: str(limit)[:12] if limit != 10**5000 else "huge"
)
def test_limits_and_budgets(filled: MemCube, limit: Any) -> None:
    """Zero, negative, huge, fractional and truth values are no limits; the message names the range."""
    calls: list[Callable[[], object]] = [
        lambda: filled.search("Lisbon", limit=limit),
        lambda: filled.recall("Lisbon", budget_tokens=limit),
        lambda: filled.list(limit=limit),
        lambda: filled.list(offset=limit),
        lambda: filled.kv.search(limit=limit),
        lambda: filled.kv.search(offset=limit),
        lambda: filled.kv.list_namespaces(limit=limit),
    ]
    for number, call in enumerate(calls):
        if limit == 0 and not isinstance(limit, bool) and number >= 3:
            call()  # an offset may be 0, and a page of a key-value store may be empty
            continue
        with refused(filled, BadLimit, "must be a whole number from"):
            call()


def test_a_budget_of_one_is_an_empty_context(filled: MemCube) -> None:
    """A budget in which nothing fits gives an empty context, not an error."""
    assert not filled.recall("Lisbon", budget_tokens=1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, True, "1", None, 10**400])
def test_shares(filled: MemCube, value: Any) -> None:
    """A confidence lies within 0 and 1."""
    with refused(filled, BadLimit, "from 0 to 1"):
        filled.add("hello", confidence=value)
    with refused(filled, BadLimit, "from 0 to 1"):
        filled.update(filled.list()[0].id, confidence=value)


@pytest.mark.parametrize("value", [math.nan, -math.inf, True, "1", None, 10**400], ids=lambda v: str(v)[:8])
def test_priorities(filled: MemCube, value: Any) -> None:
    """A priority is a finite number."""
    with refused(filled, BadLimit, "finite"):
        filled.add("hello", priority=value)


CHOICES: dict[str, dict[str, Any]] = {
    "kind": {"kind": "opinion"},
    "a node": {"kind": "concept"},
    "tier": {"tier": "short"},
    "visibility": {"visibility": "public"},
    "tags": {"tags": "one"},
    "no tags": {"tags": 5},
    "a tag": {"tags": ["fine", ""]},
    "source": {"source": "https://example.org"},
    "url": {"source": Source(url="\ud800")},
    "a span": {"source": Source(span=cast("tuple[int, int]", (1, "b")))},
    "a span backwards": {"source": Source(span=(5, 2))},
}


@pytest.mark.parametrize("case", CHOICES)
def test_fields(filled: MemCube, case: str) -> None:
    """A field with a value it cannot have is refused, by `add` and by `update`."""
    cure = r"choose one of|hand over|must have|make it|repair it|in order"
    with refused(filled, BadInput, cure):
        filled.add("hello", **CHOICES[case])
    if "source" not in CHOICES[case]:
        with refused(filled, BadInput, cure):
            filled.update(filled.list()[0].id, **CHOICES[case])


def test_unknown_fields(filled: MemCube) -> None:
    """An unknown keyword is refused with those that are known."""
    unknown: dict[str, Any] = {"colour": "red"}
    for call in (
        lambda: filled.update(filled.list()[0].id, **unknown),
        lambda: filled.search("hello", **unknown),
        lambda: filled.recall("hello", **unknown),
        lambda: filled.list(**unknown),
    ):
        with refused(filled, BadInput, "known are"):
            call()
    with refused(filled, BadInput, "name one of"):
        filled.update(filled.list()[0].id)


@pytest.mark.parametrize("kinds", ["fact", 5, ["opinion"], ["topic"]])
def test_filters(filled: MemCube, kinds: Any) -> None:
    """A filter names kinds and states that there are, in a list."""
    for call in (lambda: filled.search("hello", kinds=kinds), lambda: filled.list(states=kinds)):
        with refused(filled, BadInput, r"hand over a list|choose one of"):
            call()


@pytest.mark.parametrize("text", [None, 5])
def test_what_is_neither_text_nor_texts(filled: MemCube, text: Any) -> None:
    """`add` and `forget` take one str or several, nothing else; no texts are no error."""
    with refused(filled, BadText, "hand over a list"):
        filled.add(text)
    with refused(filled, BadName, "hand over a list"):
        filled.forget(text)
    assert filled.add([]) == []
    assert filled.forget([]).items == ()


# What is not there


def test_unknown_cube(memos: MemOS) -> None:
    """A cube that is not there is not made by reading it with create=False, nor by upkeep."""
    for call in (
        lambda: memos.cube("nothing", create=False),
        lambda: memos.cube("nothing", owner=Scope(user="bob")),
        lambda: memos.check("nothing"),
        lambda: memos.rebuild("nothing"),
        lambda: memos.reembed("nothing"),
        lambda: memos.delete("nothing"),
    ):
        with pytest.raises(CubeNotFound, match="check the name"):
            call()
    assert memos.cubes() == []


@pytest.mark.parametrize("name", NO_NAME, ids=ascii)
def test_cube_names(memos: MemOS, name: str) -> None:
    """What cannot be a name makes no cube."""
    with pytest.raises(BadName, match=r"must have|remove it|repair it|hand over"):
        memos.cube(name)
    assert memos.cubes() == []


def test_scopes(memos: MemOS) -> None:
    """A scope's names are names, and it names somebody."""
    with pytest.raises(BadName, match="remove it"):
        memos.acting_as(Scope(user="a\nb"))
    with pytest.raises(AccessDenied, match="give it a user"):
        memos.acting_as(Scope())


def test_a_deleted_cube(memos: MemOS, filled: MemCube) -> None:
    """A handle on a cube that was deleted says so, and the name may be used again."""
    memos.delete("alice")
    with pytest.raises(NotFound, match="make a new one"):
        filled.list()
    assert memos.cube("alice").list() == []
    assert memos.check().ok


@pytest.mark.parametrize("item", ["no-such-id", "01890000-0000-7000-8000-000000000000"])
def test_unknown_items(filled: MemCube, item: str) -> None:
    """An id that is not there is not found, by any call."""
    for call in (
        lambda: filled.get(item),
        lambda: filled.history(item),
        lambda: filled.update(item, text="changed"),
        lambda: filled.forget(item),
        lambda: filled.forget([filled.list()[0].id, item]),
    ):
        with refused(filled, ItemNotFound, "search for it again"):
            call()


def test_ids_of_another_cube(memos: MemOS, filled: MemCube) -> None:
    """An id of another cube is not found, and that cube is as it was."""
    other = memos.cube("bob")
    item = other.add("kept").id
    with refused(other, ItemNotFound, "in this cube"):
        filled.forget([filled.list()[0].id, item])
    with refused(filled, ItemNotFound, "in this cube"):
        filled.get(item)
    with refused(filled, ItemNotFound, "in this cube"):
        filled.update(item, text="changed")


def test_a_version_that_is_over(filled: MemCube) -> None:
    """An update that expects another version is refused."""
    item = filled.add("first")
    assert filled.update(item.id, expect_version=1, text="second").version == 2
    with refused(filled, VersionConflict, "read it again"):
        filled.update(item.id, expect_version=1, text="third")


# Roots


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    """A file, or a path through a file, holds no memories and is left as it is."""
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    for path in (file, file / "below"):
        with pytest.raises(BadRoot, match="name a folder"):
            MemOS.open(path, embedder=HashEmbedder(), background=False)
    assert file.read_text("utf-8") == "mine"


def test_a_root_with_files_in_the_way(tmp_path: Path) -> None:
    """A file where a folder must be, or a folder where a file must be, is told."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "cubes").write_text("mine", "utf-8")
    (tmp_path / "two" / "catalog.db").mkdir(parents=True)
    for name in ("one", "two"):
        with pytest.raises(BadRoot, match=r"name a folder|another folder"):
            MemOS.open(tmp_path / name, embedder=HashEmbedder(), background=False)


def test_times_at_the_ends_of_the_calendar(cube: MemCube) -> None:
    """A zone that leads out of the calendar is refused; its last moment is taken."""
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    early = datetime.fromisoformat("0001-01-01T00:00:00+05:00")
    with refused(cube, BadTime, "hand over another"):
        cube.capture([Message("user", "hello", at=early)])
    item = cube.add("hello", event_at=last)
    assert cube.get(item.id).event_at == last
