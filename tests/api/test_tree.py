"""The tree of a cube: people, things and themes found by the background job, shown to whom they may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_engine import AccessDenied, BadLimit, MemCube, MemOS, Message, Scope, TreeNode
from memos_engine.store.tree_rows import TreeQuestions
from memos_engine.testing.fakes import FrozenClock, HashEmbedder
from memos_engine.upkeep import organise

ALICE, BOB = Scope(user="alice"), Scope(user="bob")
START = datetime(2025, 5, 1, 9, tzinfo=UTC)
SESSIONS = (
    (
        "I joined a pottery studio last week.",
        "Lovely! What did you make?",
        "A bowl with a blue glaze, fired in the kiln.",
        "I met Anneliese at the pottery studio.",
        "How was the kiln?",
        "Very hot, and the glaze cracked.",
        "I prefer the blue glaze, by the way.",
        "We also saw sailboats in Lisbon.",
    ),
    (
        "The kiln broke again.",
        "Oh no, and the bowls?",
        "The glaze is ruined, the pottery is not.",
        "Remember that the pottery studio opens at ten.",
        "I will.",
        "My sister Anneliese bought a telescope.",
        "For the comets?",
        "Yes, comets and planets near Lisbon.",
    ),
    (
        "Anneliese saw the comet with her telescope.",
        "Was it bright?",
        "Brighter than the planets.",
        "The pottery studio has a new kiln.",
        "Then there will be bowls.",
        "Yes, bowls with a green glaze.",
        "My zanzibarqx arrived.",
    ),
    (
        "The telescope shows planets well.",
        "And comets?",
        "A comet only in Lisbon, where it is dark.",
        "The zanzibarqx is here, next to the telescope.",
        "What does a zanzibarqx do?",
        "It turns the bowls.",
        "Good night!",
    ),
)
TURNS = [
    Message("assistant" if n % 2 else "user", text, id=f"{k}-{n}", at=START + timedelta(days=k, minutes=n))
    for k, texts in enumerate(SESSIONS)
    for n, text in enumerate(texts)
]


@pytest.fixture
def talk(memos: MemOS, cube: MemCube) -> MemCube:
    """Thirty turns of four sessions, organised."""
    cube.capture(TURNS, thread="t")
    memos.drain()
    return cube


def flat(nodes: Sequence[TreeNode]) -> Iterator[TreeNode]:
    """Every node."""
    for node in nodes:
        yield node
        yield from flat(node.children)


def texts(cube: MemCube, kind: str) -> set[str]:
    """The texts of the tree's nodes of a kind."""
    return {node.text for node in flat(cube.tree(limit=100)) if node.kind == kind}


def shape(nodes: Sequence[TreeNode]) -> object:
    """The tree without its ids, which no two cubes share."""
    return [(node.kind, node.text, node.count, shape(node.children)) for node in nodes]


def edges(cube: MemCube) -> set[tuple[str, str, str, float]]:
    """Every edge but those of the sessions, by texts."""
    with cube._shelf.file.read() as reader:
        name = dict(reader.rows("SELECT n, text FROM items"))
        return {
            (name[source], kind, name[target], weight)
            for source, kind, target, weight in reader.all_edges()
            if kind not in ("next", "same_session", "derived_from")
        }


def holds(folder: Path, word: str) -> list[str]:
    """The files below a folder that hold a word, in any case."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes().lower()
    ]


def test_things_of_a_talk(talk: MemCube) -> None:
    """What recurs over sessions is a concept; people, chance words and everyday ones are none of these."""
    things = texts(talk, "concept")
    assert {"pottery studio", "kiln", "glaze", "bowl", "comet", "planet", "telescope", "zanzibarqx"} <= things
    assert {"Lisbon", "Anneliese"} <= things
    assert not things & {"anneliese", "week", "sister", "sailboat", "pottery", "studio", "night"}
    assert talk.check().ok


def test_the_tree_has_levels(talk: MemCube) -> None:
    """Topics hold concepts, concepts what was said, each with what is below it; most come first."""
    roots = talk.tree()
    people = next(node for node in roots if node.text == "People")
    assert [node.text for node in people.children] == ["Anneliese"]
    themes = [node for node in roots if node.kind == "topic" and node.text != "People"]
    assert themes
    for node in flat(roots):
        assert node.count == 0 or node.kind in ("topic", "concept")
        order = [(-child.count, child.kind == "episode", child.text) for child in node.children]
        assert order == sorted(order)
    for theme in themes:
        assert theme.text == ", ".join(theme.text.split(", ")[:3])
        assert set(theme.text.split(", ")) <= {node.text for node in theme.children}
        items = {node.id for concept in theme.children for node in concept.children}
        assert theme.count == len(items)
    glaze = next(node for node in flat(roots) if node.text == "glaze")
    assert glaze.count == len(glaze.children) == 6
    assert {node.kind for node in glaze.children} == {"episode", "preference"}


def test_depth_and_limit(talk: MemCube) -> None:
    """Depth cuts levels, the limit cuts children and roots; counts stay."""
    whole = talk.tree(limit=100)
    assert [(node.id, node.count) for node in talk.tree(depth=1, limit=100)] == [
        (node.id, node.count) for node in whole
    ]
    assert not any(node.children for node in talk.tree(depth=1))
    assert all(
        not leaf.children for node in talk.tree(depth=2) for leaf in node.children if node.kind == "topic"
    )
    assert talk.tree(depth=3, limit=100) == whole == talk.tree(depth=100_000, limit=100)
    narrow = talk.tree(limit=1)
    assert len(narrow) == 1
    assert all(len(node.children) <= 1 for node in flat(narrow))
    assert narrow[0].count == whole[0].count


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", True, 10**9])
def test_bad_input(cube: MemCube, bad: object) -> None:
    """Depth and limit are whole numbers from one."""
    with pytest.raises(BadLimit, match="depth"):
        cube.tree(depth=bad)  # type: ignore[arg-type] # -- on purpose
    with pytest.raises(BadLimit, match="limit"):
        cube.tree(limit=bad)  # type: ignore[arg-type] # -- on purpose


def test_an_empty_cube(memos: MemOS, cube: MemCube) -> None:
    """A cube with nothing in it, or with nothing that recurs, has an empty tree."""
    assert cube.tree() == ()
    memos.drain()
    assert cube.tree() == ()
    cube.capture([Message("user", "a kiln")])
    memos.drain()
    assert cube.tree() == ()


@pytest.mark.parametrize("pieces", [1, 2, 7, 30])
def test_in_pieces_as_at_once(memos: MemOS, talk: MemCube, pieces: int) -> None:
    """Jobs between captures lead to the tree that one job at the end makes."""
    other = memos.cube("other")
    size = -(-len(TURNS) // pieces)
    for start in range(0, len(TURNS), size):
        other.capture(TURNS[start : start + size], thread="t")
        memos.drain()
    assert shape(other.tree(limit=100)) == shape(talk.tree(limit=100))
    assert edges(other) == edges(talk)
    assert other.check().ok


def test_beyond_the_mark_as_at_once(memos: MemOS) -> None:
    """So it is in a longer talk, where things are found at marks and later turns join those that are known."""
    words = "kiln glaze bowl comet planet telescope boat sail mast violin drum piano".split()
    said = [
        Message(
            "user",
            f"the {words[n % 12]}, the {words[n * n % 11]} and more",
            at=START + timedelta(hours=3 * n),
        )
        for n in range(157)
    ]
    one, other = memos.cube("one"), memos.cube("other")
    one.capture(said, thread="t")
    memos.drain()
    for start in range(0, len(said), 13):
        other.capture(said[start : start + 13], thread="t")
        memos.drain()
    assert edges(one)
    assert edges(one) == edges(other)


def test_a_second_job_changes_nothing(memos: MemOS, talk: MemCube) -> None:
    """What is organised is left alone, even by a job that is told to do all anew."""
    before, revision, stats = shape(talk.tree(limit=100)), talk.stats().revision, talk.stats()
    assert organise(talk._shelf, lambda: None) == 0
    memos.drain()
    assert talk.stats() == stats
    talk._shelf.file.write(
        lambda writer: writer.connection.execute("DELETE FROM meta WHERE key IN ('organised_to', 'grouped')"),
        principal="user:t", action="test",
    )  # fmt: skip
    assert organise(talk._shelf, lambda: None) == 0
    assert talk.stats().revision == revision
    assert shape(talk.tree(limit=100)) == before


def test_an_interrupted_job_goes_on(memos: MemOS, cube: MemCube, talk: MemCube) -> None:
    """A job that dies after any step leaves a whole cube, and the next one ends where one job would have."""
    other = memos.cube("other")
    other.capture(TURNS, thread="t")
    for after in range(8):
        left = [after]

        def beat(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise TimeoutError

        try:
            organise(other._shelf, beat)
        except TimeoutError:
            assert other.check().ok
    memos.drain()
    assert edges(other) == edges(talk)


def test_forgetting_a_thing(talk: MemCube, memos: MemOS) -> None:
    """With the last item that mentions a word its concept goes, and the word stands in no file."""
    folder = talk._shelf.file.folder
    items = [item.id for item in talk.list(limit=100) if "zanzibarqx" in item.text]
    assert len(items) == 3
    talk.forget(items[0])
    assert "zanzibarqx" in texts(talk, "concept")
    assert talk.forget(items[1:]).purged
    assert "zanzibarqx" not in texts(talk, "concept")
    assert holds(folder, "zanzibarqx") == []
    memos.drain()
    assert holds(folder, "zanzibarqx") == []
    assert talk.check().ok


def test_forgetting_what_a_theme_is_named_after(talk: MemCube, memos: MemOS) -> None:
    """A theme goes with any thing of its name, and the next job makes the themes anew."""
    for theme in [node for node in talk.tree(limit=100) if node.kind == "topic" and ", " in node.text]:
        word = theme.text.split(", ")[0].split(" ")[0].lower()
        talk.forget([item.id for item in talk.list(limit=100) if word in item.text.lower()])
        assert not any(word in node.text.lower() for node in flat(talk.tree(limit=100)))
        assert holds(talk._shelf.file.folder, word) == []
        memos.drain()
        assert holds(talk._shelf.file.folder, word) == []
        assert talk.check().ok


def test_changed_items_move(talk: MemCube, memos: MemOS) -> None:
    """An item that says something else mentions something else, and a thing that nothing mentions goes."""
    items = [item.id for item in talk.list(limit=100) if "zanzibarqx" in item.text]
    talk.update(items[0], text="The kiln is here.")
    talk.update(items[1], state="archived")
    talk.update(items[2], kind="note")
    memos.drain()
    assert "zanzibarqx" not in texts(talk, "concept")
    kiln = next(node for node in flat(talk.tree(limit=100)) if node.text == "kiln")
    assert "The kiln is here." in {node.text for node in kiln.children}


# Who is shown what


def bobs(memos: MemOS) -> MemCube:
    """Bob's handle on Alice's cube."""
    memos.acting_as(ALICE).cube("ours").grant(BOB, "read")
    return memos.acting_as(BOB).cube("ours", owner=ALICE)


def test_private_items_make_no_things(memos: MemOS) -> None:
    """What only one may see is nobody's concept, and adds nothing to what others are shown."""
    alices = memos.acting_as(ALICE).cube("ours")
    result = alices.capture(TURNS, thread="t")
    for item_id, turn in zip(result.episodes, TURNS, strict=True):
        if "zanzibarqx" in turn.text or "telescope" in turn.text:
            alices.update(item_id, visibility="private")
    memos.drain()
    for cube in (alices, bobs(memos), memos.cube("ours", owner=ALICE)):
        assert not {"zanzibarqx", "telescope"} & texts(cube, "concept")
        assert "kiln" in texts(cube, "concept")


def test_what_is_hidden_later_is_hidden_at_once(memos: MemOS) -> None:
    """A concept is shown to those who may see an item below it; the next job takes it away for all."""
    alices = memos.acting_as(ALICE).cube("ours")
    alices.capture(TURNS, thread="t")
    memos.drain()
    bob = bobs(memos)
    before = {node.text: node.count for node in flat(bob.tree(limit=100))}
    assert before["Lisbon"] == 3
    theme = next(name for name in before if ", " in name)
    word = theme.split(", ")[0]
    for item in alices.list(limit=100):
        if any(part in item.text.lower() for part in (word.lower(), "anneliese")):
            alices.update(item.id, visibility="private")
    seen = {node.text for node in flat(bob.tree(limit=100))}
    assert not seen & {word, theme, "Anneliese", "People"}
    assert {word, theme, "Anneliese"} <= {node.text for node in flat(alices.tree(limit=100))}
    memos.drain()
    assert not {word, theme} & {node.text for node in flat(alices.tree(limit=100))}
    assert "Anneliese" not in {node.text for node in flat(bob.tree(limit=100))}


def test_only_readers_are_shown_a_tree(memos: MemOS) -> None:
    """It takes the right to read, and takes no other."""
    alices = memos.acting_as(ALICE).cube("ours")
    alices.capture(TURNS, thread="t")
    memos.drain()
    assert bobs(memos).tree() == alices.tree()
    alices.revoke(BOB)
    with pytest.raises(AccessDenied):
        MemCube(alices._host, alices.info, BOB).tree()


# Elsewhere


def test_a_dump_keeps_the_tree(talk: MemCube, memos: MemOS, tmp_path: Path) -> None:
    """A loaded cube has the same tree, before and after its own jobs."""
    before = talk.tree(limit=100)
    loaded = memos.load(talk.dump(tmp_path / "x.tar.zst"), name="loaded")
    assert loaded.tree(limit=100) == before
    memos.drain()
    assert loaded.tree(limit=100) == before
    assert loaded.check().ok


def test_nodes_are_no_memories(talk: MemCube) -> None:
    """Neither lists nor searches return a thing or a theme."""
    assert not {item.kind for item in talk.list(limit=1_000)} & {"concept", "topic"}
    assert not {hit.item.kind for hit in talk.search("kiln glaze", limit=100)} & {"concept", "topic"}


def test_a_person_of_the_name_of_a_thing(talk: MemCube, memos: MemOS) -> None:
    """Capture may name a person as a thing is called: one node serves both."""
    talk.capture([Message("user", "My sister Lisbon called. I live here.", name="kiln")], thread="u")
    memos.drain()
    assert {"Lisbon", "kiln"} <= texts(talk, "concept")
    assert talk.check().ok


def test_related(talk: MemCube) -> None:
    """Items that share a thing or a person are related, more so by rare ones; frequent ones are passed over."""
    with talk._shelf.file.read() as reader:
        ref = {text: n for n, text in reader.rows("SELECT n, text FROM items WHERE kind = 'episode'")}
        one, other = ref["My zanzibarqx arrived."], ref["What does a zanzibarqx do?"]
        third = ref["The zanzibarqx is here, next to the telescope."]
        pairs = {pair[:2]: pair[2] for pair in reader.related([one, third])}
        assert {found for start, found in pairs if start == one} == {other, third}
        assert pairs[one, third] == pairs[third, one] > 0
        assert pairs[third, ref["The telescope shows planets well."]] > 0
        assert not reader.related([one], limit_per_node=2)
        assert reader.related([]) == reader.related([10**9]) == []
        assert isinstance(reader, TreeQuestions)
    talk.update(
        next(item.id for item in talk.list(limit=100) if item.text.startswith("What does")), state="archived"
    )
    with talk._shelf.file.read() as reader:
        assert {found for _, found, _ in reader.related([one])} == {third}


def test_jobs_in_the_background(tmp_path: Path) -> None:
    """A root that is open organises by itself."""
    clock = FrozenClock(START + timedelta(days=9))
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), clock=clock, background=False) as memos:
        memos.cube("c").capture(TURNS, thread="t")
    with MemOS.open(tmp_path / "root", embedder=HashEmbedder(), clock=clock) as memos:
        memos.drain()
        assert "kiln" in texts(memos.cube("c"), "concept")
