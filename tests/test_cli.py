"""`memcube` does what its help says: results on stdout, the rest on stderr, exit codes that tell."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from memos_engine import MemOS, Scope
from memos_engine.cli import commands, main
from memos_engine.ports import Vectors
from memos_engine.testing.fakes import HashEmbedder

ROOT = Path(__file__).parent.parent
DIM = 512  # wide enough that unrelated words do not meet
EMBEDDER = HashEmbedder(DIM)

TURNS: list[dict[str, Any]] = [
    {
        "id": "m1",
        "role": "user",
        "name": "Ana",
        "at": "2025-05-08T10:00:00+00:00",
        "text": "My parrot is called Kiwi.",
    },
    {"id": "m2", "role": "assistant", "at": "2025-05-08T10:01:00+00:00", "text": "A fine name."},
    {
        "id": "m3",
        "role": "user",
        "name": "Ana",
        "at": "2025-05-09T10:00:00Z",
        "text": "I moved to Lisbon yesterday.",
    },
]


class Shell:
    """Runs `memcube` on one root and keeps what it said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: str, code: int = 0, embedder: Any = EMBEDDER) -> str:
        """Run a command, which must end with `code`, and return its stdout."""
        found = main(["--root", str(self.root), *words], embedder=embedder)
        self.out, self.err = self._capsys.readouterr()
        assert found == code, f"exit code {found}, stderr: {self.err}"
        assert "Traceback" not in self.err
        return self.out

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json and return its one document."""
        return json.loads(self(*words, "--json", code=code))

    def error(self, *words: str, code: int) -> Mapping[str, str]:
        """Run a command that must fail and return what it says on stderr."""
        assert not self(*words, "--json", code=code)
        error: Mapping[str, str] = json.loads(self.err)["error"]
        assert set(error) == {"type", "message"}
        return error


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """`memcube` on a root that is not there yet."""
    return Shell(tmp_path / "memories", capsys)


@pytest.fixture
def chat(tmp_path: Path) -> str:
    """A file of three messages with ids."""
    return written(tmp_path / "chat.jsonl", TURNS)


@pytest.fixture
def filled(shell: Shell, chat: str) -> Shell:
    """`memcube` on a root that holds the three messages."""
    shell("capture", chat)
    return shell


def written(path: Path, rows: Sequence[object]) -> str:
    """Write JSON lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def turn(text: str, **fields: object) -> dict[str, object]:
    """A message of the user."""
    return {"role": "user", "text": text, **fields}


def program(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `memcube` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "memos_engine.cli", *words],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=60, **options,
    )  # fmt: skip


# Capture


def test_capture_counts_what_is_new_and_repeats_nothing(shell: Shell, chat: str) -> None:
    """A second run on the same file captures nothing twice."""
    first = shell.json("capture", chat)
    assert (first["cube"], first["messages"], first["new"], first["known"]) == ("default", 3, 3, 0)
    again = shell.json("capture", chat)
    assert (again["messages"], again["new"], again["known"]) == (3, 0, 3)
    assert shell("capture", chat) == "3 messages captured into cube 'default': 0 new, 3 known, 0 derived\n"


def test_capture_keeps_what_the_file_says(filled: Shell) -> None:
    """Id, speaker, time and thread of a message are those of the file."""
    item = filled.json("list", "--kind", "episode")["items"][-1]
    assert item["sources"][0]["message_id"] == "m1"
    assert (item["speaker"], item["thread"]) == ("Ana", "chat.jsonl")
    assert item["event_at"] == "2025-05-08T10:00:00+00:00"


def test_messages_go_to_their_own_thread_then_to_the_option_then_to_the_file(
    shell: Shell, tmp_path: Path
) -> None:
    """Session or thread of a message come before --thread, and that before the file's name."""
    rows = [turn("a", session="s1"), turn("b", thread="t1"), turn("c", content="not read")]
    path = written(tmp_path / "x.jsonl", rows)
    shell("capture", path, "--thread", "mine")
    shell("capture", path, "--cube", "other")
    threads = {item["text"]: item["thread"] for item in shell.json("list")["items"]}
    assert threads == {"a": "s1", "b": "t1", "c": "mine"}
    assert shell.json("list", "--cube", "other")["items"][0]["thread"] == "x.jsonl"


def test_messages_without_ids_are_known_by_their_place(shell: Shell, tmp_path: Path) -> None:
    """A file without ids may grow and be captured again; two equal turns stay two."""
    rows = [turn("yes"), turn("yes")]
    path = tmp_path / "plain.jsonl"
    assert shell.json("capture", written(path, rows))["new"] == 2
    assert shell.json("capture", written(path, [*rows, turn("no")]))["new"] == 1
    assert shell.json("capture", written(tmp_path / "other.jsonl", [turn("another")]))["new"] == 1


def test_standard_input_without_ids_is_always_new(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a pipe nothing tells a repetition, so nothing is left out."""
    for _ in range(2):
        line = json.dumps(turn("yes")).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line)))
        assert shell.json("capture", "-")["new"] == 1


def test_blank_messages_are_counted_and_left_out(shell: Shell, tmp_path: Path) -> None:
    """A message that says nothing, as a tool call in an export, is no error."""
    path = written(tmp_path / "x.jsonl", [turn("hello"), turn(" "), {"role": "assistant", "content": None}])
    assert shell.json("capture", path)["blank"] == 2


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (b'{"role": "user", "text": "a"', "BadInput", "not JSON"),
        (b"[1]", "BadInput", "no JSON object"),
        (b'{"role": "user"}', "BadText", "neither text nor content"),
        (b'{"text": "a"}', "BadInput", "no role"),
        (b'{"role": 1, "text": "a"}', "BadName", "role is a int"),
        (b'{"role": "user", "text": 1}', "BadText", "make it a string"),
        (b'{"role": "user", "text": "a\\u0000"}', "BadText", "NUL"),
        (b'{"role": "user", "text": "a\\ud800"}', "BadText", "surrogate"),
        (b'{"role": "user", "text": "a", "at": "2025-05-08"}', "BadTime", "no time zone"),
        (b'{"role": "user", "text": "a", "at": "soon"}', "BadTime", "'soon'"),
        (b'{"role": "user", "text": "a", "at": 1e300}', "BadTime", "write it as"),
        (b'{"role": "user", "text": "\xff"}', "BadText", "not UTF-8"),
        (b"[" * 100_000, "BadInput", "not JSON"),
    ],
)
def test_a_bad_line_is_named(shell: Shell, tmp_path: Path, line: bytes, kind: str, words: str) -> None:
    """What is wrong in a file is told with the number of the line."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"role": "user", "text": "fine"}\n\n' + line + b"\n")
    error = shell.error("capture", str(path), code=2)
    assert error["type"] == kind
    assert "bad.jsonl: line 3: " in error["message"] or "bad.jsonl: line 3 " in error["message"]
    assert words in error["message"]
    assert not shell.root.exists(), "a file that cannot be taken makes no memories"


def test_what_stands_before_a_bad_line_stays(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole batches before a bad line are durable, the message says so, and a second run ends the work."""
    monkeypatch.setattr(commands, "BATCH", 2)
    rows: list[object] = [turn(f"turn {n}") for n in range(5)]
    path = tmp_path / "x.jsonl"
    error = shell.error("capture", written(path, [*rows, "oops"]), code=2)
    assert "line 6" in error["message"]
    assert "The first 4 messages stay captured" in error["message"]
    done = shell.json("capture", written(path, rows))
    assert (done["new"], done["known"]) == (1, 4)


def test_an_interrupted_capture_goes_on_where_it_was(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends with 130; what was captured stays, the rest comes with the next run."""

    class Interrupting(HashEmbedder):
        calls = 0

        def embed(self, texts: Sequence[str]) -> Vectors:
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().embed(texts)

    monkeypatch.setattr(commands, "BATCH", 2)
    path = written(tmp_path / "x.jsonl", [turn(f"turn {n}") for n in range(9)])
    shell("capture", path, code=130, embedder=Interrupting(DIM))
    assert "interrupted" in shell.err
    done = shell.json("capture", path)
    assert (done["known"], done["new"]) == (4, 5)
    assert shell.json("check")["ok"]


def test_a_changed_message_is_refused(filled: Shell, tmp_path: Path) -> None:
    """An id that comes back with other text is a conflict."""
    path = written(tmp_path / "chat.jsonl", [{**TURNS[0], "text": "My parrot is called Mango."}])
    assert filled.error("capture", path, code=2)["type"] == "MessageConflict"


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"messages": rows}], ids=["list", "object"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_messages_is_taken(
    shell: Shell, tmp_path: Path, wrap: Callable[[object], object], indent: int | None
) -> None:
    """What frameworks save, a list of role and content, is recognised, in parts too."""
    rows = [
        {"role": "user", "content": "I like tea."},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Green"}, {"type": "image_url"}, "or black?"],
        },
    ]
    path = tmp_path / "saved.json"
    path.write_text(json.dumps(wrap(rows), indent=indent), encoding="utf-8")
    assert shell.json("capture", str(path))["messages"] == 2
    texts = [item["text"] for item in shell.json("list", "--kind", "episode")["items"]]
    assert texts == ["Green\nor black?", "I like tea."]


def chatgpt_node(
    name: str, parent: str | None, role: str, *parts: object, **fields: object
) -> dict[str, object]:
    """A node of a conversation as ChatGPT exports it."""
    content = {"content_type": "text", "parts": list(parts)}
    message = {
        "id": name,
        "author": {"role": role, "name": None},
        "create_time": None,
        "content": content,
        **fields,
    }
    return {"id": name, "parent": parent, "children": [], "message": message}


def test_a_chatgpt_export_is_taken(shell: Shell, tmp_path: Path) -> None:
    """The current branch of each conversation is captured: what user and assistant wrote, with ids and times."""
    nodes: list[dict[str, object]] = [
        {"id": "root", "parent": None, "children": ["sys"], "message": None},
        chatgpt_node(
            "sys", "root", "system", "You are kind.", metadata={"is_visually_hidden_from_conversation": True}
        ),
        chatgpt_node(
            "q", "sys", "user", "What is a quokka?", {"asset_pointer": "x"}, create_time=1746698400.5
        ),
        chatgpt_node("old", "q", "assistant", "A discarded answer."),
        chatgpt_node("tool", "q", "tool", "searched"),
        chatgpt_node("a", "tool", "assistant", "A small wallaby."),
        chatgpt_node("empty", "a", "assistant", ""),
    ]
    export = [
        {
            "title": "Animals", "create_time": 1746698000.0, "conversation_id": "c1", "current_node": "empty",
            "mapping": {str(node["id"]): node for node in nodes},
        }
    ]  # fmt: skip
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(export), encoding="utf-8")
    done = shell.json("capture", str(path))
    assert (done["messages"], done["blank"]) == (2, 1)
    answer, question = shell.json("list", "--kind", "episode")["items"]
    assert (answer["text"], question["text"]) == ("A small wallaby.", "What is a quokka?")
    assert (question["thread"], question["sources"][0]["message_id"]) == ("c1", "q")
    assert question["event_at"] == "2025-05-08T10:00:00.500000+00:00"
    assert answer["event_at"] == question["event_at"], "a node without a time has that of the one before"


@pytest.mark.parametrize("text", ["{}\n", "3\n", '{"a":\n 1}', "[1]", '[{"mapping": {}}, 5]', "[{}]"])
def test_documents_of_another_kind_are_refused(shell: Shell, tmp_path: Path, text: str) -> None:
    """JSON that holds no messages is told to be so."""
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert "x.json" in shell.error("capture", str(path), code=2)["message"]


def test_an_empty_file_has_nothing(shell: Shell, tmp_path: Path) -> None:
    """No messages is the exit code of nothing found."""
    shell("capture", written(tmp_path / "x.jsonl", []), code=1)
    assert "no messages" in shell.err


# Recall, search, list, show


def test_recall_prints_what_a_prompt_needs(filled: Shell) -> None:
    """In a pipe it is the context alone; JSON has the source and the reasons of each line."""
    text = filled("recall", "What is the parrot called?")
    assert text.startswith("<memories>")
    assert text.endswith("</memories>\n")
    found = filled.json("recall", "What is the parrot called?")
    assert found["text"] == text.removesuffix("\n")
    source = next(source for source in found["sources"] if source["message_id"] == "m1")
    assert f"{source['handle']} Ana: My parrot" in text
    assert {reason["retriever"] for reason in source["why"]} >= {"dense", "keyword"}
    assert 0.2 < found["score"] <= 1
    assert found["tokens"] <= 2_000


def test_recall_keeps_to_the_budget(filled: Shell) -> None:
    """--budget bounds the text; a budget that holds nothing finds nothing."""
    assert filled.json("recall", "parrot", "--budget", "70")["tokens"] <= 70
    empty = filled.json("recall", "parrot", "--budget", "1", code=1)
    assert (empty["text"], empty["tokens"], empty["sources"]) == ("", 0, [])


def test_recall_explains_itself(filled: Shell) -> None:
    """--explain tells how the query was understood, each line's source and reasons, and what was left out."""
    text = filled("recall", "What is Ana's parrot called?", "--explain", "--budget", "70")
    assert "understood as what, about Ana: What is parrot called?" in text
    assert "sure that the answer is here" in text
    assert "m1" in text
    found = filled.json("recall", "What is Ana's parrot called?", "--explain", "--budget", "70")
    assert found["understood"].startswith("what, about Ana")
    assert found["left_out"]
    silent = filled.json("recall", "parrot", "--min-score", "1", code=1)
    assert (silent["text"], silent["score"] < 1) == ("", True)


def test_nothing_found_is_exit_code_one(filled: Shell) -> None:
    """An empty answer is no error: stdout is empty, stderr says so."""
    assert not filled("search", "xylophone", code=1)
    assert filled.err == "nothing found\n"
    assert filled.json("search", "xylophone", code=1) == {"hits": []}
    assert filled.json("list", "--kind", "skill", code=1) == {"items": []}


def test_search_tells_why(filled: Shell) -> None:
    """A line of search has score, id, kind, time, speaker, text and the reasons between tabs."""
    score, item_id, kind, when, speaker, text, why = filled("search", "parrot", "--limit", "1").split("\t")
    assert 0 < float(score) <= 1
    assert (kind, when, speaker) == ("fact", "2025-05-08 10:00", "Ana")
    assert text == "My parrot is called Kiwi."
    assert "dense #1" in why
    assert filled.json("search", "parrot")["hits"][0]["item"]["id"] == item_id


def test_list_shows_newest_first_and_kinds(filled: Shell) -> None:
    """--kind and --limit restrict the list."""
    assert [item["text"] for item in filled.json("list", "--limit", "1", "--kind", "episode")["items"]] == [
        TURNS[-1]["text"]
    ]
    assert {item["kind"] for item in filled.json("list", "--kind", "episode", "--kind", "note")["items"]} == {
        "episode"
    }


def test_show_has_the_item_and_its_history(filled: Shell) -> None:
    """Older versions are shown below the fields of an item."""
    item_id = filled.json("list", "--kind", "episode")["items"][0]["id"]
    with MemOS.open(filled.root, embedder=EMBEDDER, background=False) as memos:
        memos.cube("default").update(item_id, text="I moved to Porto yesterday.")
    found = filled.json("show", item_id)
    assert found["item"]["version"] == 2
    assert [past["item"]["text"] for past in found["history"]] == [
        TURNS[2]["text"],
        "I moved to Porto yesterday.",
    ]
    plain = filled("show", item_id)
    assert "text\tI moved to Porto yesterday.\n" in plain
    assert plain.count("I moved to Lisbon yesterday.") == 1


def test_memory_text_cannot_steer_a_terminal(shell: Shell, tmp_path: Path) -> None:
    """Escape sequences in what was said are made harmless in tables, and kept in JSON."""
    text = "red \x1b[31m alert \x9b2J\ttab"
    shell("capture", written(tmp_path / "x.jsonl", [turn(text)]))
    for words in (("list",), ("search", "alert"), ("recall", "alert")):
        assert not {"\x1b", "\x9b"} & set(shell(*words))
    assert shell.json("list")["items"][0]["text"] == text


# Forget


def test_forget_needs_yes_without_a_terminal(filled: Shell) -> None:
    """Without a terminal to ask on, nothing is erased unless --yes is typed."""
    item_id = filled.json("list")["items"][0]["id"]
    error = filled.error("forget", item_id, code=2)
    assert "--yes" in error["message"]
    assert filled.json("forget", item_id, "--yes")["items"] == [item_id]
    assert filled.error("show", item_id, code=3)["type"] == "ItemNotFound"
    assert filled.error("forget", item_id, "--yes", code=3)["type"] == "ItemNotFound"


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize(("reply", "code", "left"), [("n", 1, 3), ("", 1, 3), ("y", 0, 2)])
def test_forget_asks_on_a_terminal(filled: Shell, reply: str, code: int, left: int) -> None:
    """On a terminal the memories are shown before the question, and only yes erases."""
    item_id = filled.json("list", "--kind", "episode")["items"][0]["id"]
    mine, theirs = os.openpty()
    command = [sys.executable, "-m", "memos_engine.cli", "--root", str(filled.root), "forget", item_id]
    child = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(mine, f"{reply}\n".encode())
    said = b"".join(terminal(mine)).decode()
    os.close(mine)
    assert child.wait(timeout=60) == code, said
    assert "I moved to Lisbon yesterday." in said
    assert "[y/N]" in said
    assert len(filled.json("list", "--kind", "episode")["items"]) == left


@pytest.fixture
def organised(shell: Shell, tmp_path: Path) -> Shell:
    """`memcube` on a root whose jobs have run: one person, one theme of three things."""
    rows = [
        turn(
            f"I met Anneliese: the kiln, the glaze and the bowl, {word}.",
            id=f"k{n}",
            at=f"2025-05-0{n + 1}T10:00:00Z",
        )
        for n, word in enumerate(["again", "twice", "thrice"])
    ]
    shell("capture", written(tmp_path / "kilns.jsonl", rows))
    with MemOS.open(shell.root, embedder=EMBEDDER, background=False) as memos:
        memos.drain()
    return shell


def test_tree_in_a_pipe(organised: Shell) -> None:
    """Each node is a line: level, kind, count, id, text; children follow their parent."""
    lines = [line.split("\t") for line in organised("tree").splitlines()]
    assert [(line[0], line[1], line[2], line[4]) for line in lines if line[1] != "episode"] == [
        ("1", "topic", "3", "People"),
        ("2", "concept", "3", "Anneliese"),
        ("1", "topic", "3", "bowl, glaze, kiln"),
        ("2", "concept", "3", "bowl"),
        ("2", "concept", "3", "glaze"),
        ("2", "concept", "3", "kiln"),
    ]
    assert [line[0] for line in lines if line[1] == "episode"] == ["3"] * 12
    assert len(organised("tree", "--depth", "2").splitlines()) == 6
    assert len(organised("tree", "--limit", "1").splitlines()) == 3


def test_tree_as_json(organised: Shell) -> None:
    """With --json the nodes are nested objects."""
    (people, theme) = organised.json("tree", "--depth", "2")["tree"]
    assert people["children"][0]["text"] == "Anneliese"
    assert {child["text"] for child in theme["children"]} == {"bowl", "glaze", "kiln"}
    assert set(theme) == {"id", "kind", "text", "count", "children"}
    assert theme["children"][0]["children"] == []


def test_tree_of_what_is_not_organised(shell: Shell, tmp_path: Path) -> None:
    """A cube whose jobs have not run has no tree, and bad numbers are told."""
    shell("capture", written(tmp_path / "one.jsonl", [turn("a kiln", id="k")]))
    assert not shell("tree", code=1)
    assert "nothing is organised yet" in shell.err
    assert shell.json("tree", code=1) == {"tree": []}
    assert shell.error("tree", "--depth", "0", code=2)["type"] == "BadLimit"
    assert shell.error("tree", "--limit", "0", code=2)["type"] == "BadLimit"


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_tree_on_a_terminal(organised: Shell) -> None:
    """On a terminal it is drawn, with the counts behind the names."""
    mine, theirs = os.openpty()
    command = [
        sys.executable,
        "-m",
        "memos_engine.cli",
        "--root",
        str(organised.root),
        "tree",
        "--depth",
        "2",
    ]
    child = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b"".join(terminal(mine)).decode()
    os.close(mine)
    assert child.wait(timeout=60) == 0, said
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "People  3" in plain
    assert "└── kiln  3" in plain


def terminal(fd: int) -> Iterator[bytes]:
    """What comes out of a pseudo-terminal until its other end closes."""
    while True:
        try:
            data = os.read(fd, 65_536)
        except OSError:  # Linux's way to say that it is closed
            return
        if not data:
            return
        yield data


# Whole cubes


@pytest.mark.parametrize("name", ["cube.tar.zst", "cube"])
def test_dump_show_and_load(filled: Shell, tmp_path: Path, name: str) -> None:
    """A cube goes to a file or folder and comes back under another name; the manifest can be shown."""
    path = tmp_path / name
    assert filled.json("dump", str(path))["bytes"] > 0
    assert filled.error("dump", str(path), code=2)["type"] == "Conflict"
    filled("dump", str(path), "--overwrite", "--kinds", "episode")
    assert filled.json("show", str(path))["manifest"]["kinds"] == ["episode"]
    assert filled.error("load", str(path), code=2)["type"] == "Conflict"
    assert filled.json("load", str(path), "--name", "copy")["cube"]["name"] == "copy"
    assert len(filled.json("list", "--cube", "copy", "--kind", "episode")["items"]) == 3
    assert [row.split("\t")[0] for row in filled("cubes").splitlines()] == ["default", "copy"]


def test_a_damaged_cube_file_is_refused(filled: Shell, tmp_path: Path) -> None:
    """A file that is no cube file fails with 4, and leaves no cube."""
    path = tmp_path / "x.tar.zst"
    path.write_bytes(b"no archive at all")
    assert filled.error("load", str(path), code=4)["type"] == "ArchiveForeign"
    assert filled.error("show", str(path), code=4)["type"] == "ArchiveForeign"
    assert len(filled.json("cubes")["cubes"]) == 1


def test_stats_counts(filled: Shell) -> None:
    """Counts and sizes, in a table and in JSON."""
    assert filled.json("stats")["by_kind"]["episode"] == 3
    assert f"embedder\t{EMBEDDER.fingerprint}\n" in filled("stats")


def test_check_finds_problems(filled: Shell) -> None:
    """A sound cube checks clean; a missing vector is a problem and exit code 1, for one cube and for all."""
    assert filled.json("check")["ok"]
    assert not filled("check", "--cube", "default")
    (database,) = filled.root.glob("cubes/*/memory.db")
    connection = apsw.Connection(str(database))
    connection.execute("DELETE FROM vectors WHERE v = (SELECT min(v) FROM vectors)")
    connection.close()
    assert filled("check", code=1)
    found = filled.json("check", "--cube", "default", code=1)
    assert not found["ok"]
    assert found["problems"]


# Rights, roots and errors


def test_a_user_sees_only_what_is_shared(filled: Shell, chat: str) -> None:
    """--user acts with that user's rights; --owner names another's cube once it is shared."""
    filled("capture", chat, "--user", "bob", "--cube", "diary")
    assert filled.error("list", "--user", "eve", "--cube", "diary", code=3)["type"] == "CubeNotFound"
    assert [row["owner"] for row in filled.json("cubes", "--user", "bob")["cubes"]] == ["user:bob"]
    theirs = ("--user", "eve", "--cube", "diary", "--owner", "user:bob")
    assert filled.error("list", *theirs, code=3)["type"] == "CubeNotFound"
    with MemOS.open(filled.root, embedder=EMBEDDER, background=False) as memos:
        memos.acting_as(Scope(user="bob")).cube("diary").grant(Scope(user="eve"), "read")
    assert len(filled.json("list", *theirs, "--kind", "episode")["items"]) == 3
    assert filled.error("capture", chat, *theirs, code=3)["type"] == "AccessDenied"


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ((), 2, "UsageError"),
        (("remember", "x"), 2, "UsageError"),
        (("list", "--limit", "many"), 2, "UsageError"),
        (("list", "--limit", "-1"), 2, "BadLimit"),
        (("list", "--kind", "dream"), 2, "UsageError"),
        (("recall", " "), 2, "BadText"),
        (("recall", "x", "--budget", "-5"), 2, "BadLimit"),
        (("list", "--cube", "nope"), 3, "CubeNotFound"),
        (("list", "--cube", " "), 2, "BadName"),
        (("show", "nope"), 3, "ItemNotFound"),
        (("capture", "nope.jsonl"), 2, "BadInput"),
        (("load", "nope.tar.zst"), 4, "ArchiveError"),
        (("dump", "no/such/folder/x.tar.zst"), 4, "StoreError"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(
    filled: Shell, words: tuple[str, ...], code: int, kind: str
) -> None:
    """An error is one JSON object on stderr with its type, and the exit code of its class."""
    assert filled.error(*words, code=code)["type"] == kind


def test_errors_are_one_line_for_people(filled: Shell) -> None:
    """Without --json an error is a sentence."""
    filled("list", "--limit", "-1", code=2)
    assert filled.err.startswith("memcube: limit is -1: ")
    assert filled.err.count("\n") == 1


def test_reading_makes_no_memories(shell: Shell) -> None:
    """A root that was mistyped is told, not made."""
    assert shell.error("list", code=3)["type"] == "NotFound"
    assert not shell.root.exists()


def test_a_root_that_is_a_file_is_refused(shell: Shell, chat: str) -> None:
    """The root must be a folder."""
    shell.root.write_text("", encoding="utf-8")
    assert shell.error("list", code=4)["type"] == "BadRoot"
    assert shell.error("capture", chat, code=4)["type"] == "BadRoot"


def test_only_what_makes_vectors_needs_a_model(filled: Shell, tmp_path: Path) -> None:
    """Reading, moving and forgetting look for no weights; searching with another model is refused."""
    other = ("--model", str(tmp_path / "no-such-model"))
    for words in (("list",), ("stats",), ("check",), ("dump", str(tmp_path / "d")), ("cubes",)):
        filled(*words, *other, embedder=None)
    item_id = filled.json("list")["items"][0]["id"]
    filled("forget", item_id, "--yes", *other, embedder=None)
    filled("search", "parrot", *other, embedder=None, code=4)
    filled("search", "parrot", embedder=HashEmbedder(DIM * 2), code=2)


def test_options_stand_before_or_behind_the_command(
    filled: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json and --root mean the same in both places."""
    assert main(["--json", "list", "--root", str(filled.root)]) == 0
    behind = capsys.readouterr().out
    assert main(["--json", "--root", str(filled.root), "list"]) == 0
    assert capsys.readouterr().out == behind


# Examples and the program itself


def test_examples_are_copied_once(shell: Shell, tmp_path: Path) -> None:
    """The examples land in a new folder; one in use is left alone."""
    target = tmp_path / "mine"
    copied = shell.json("examples", str(target))["files"]
    assert str(target / "01_remember.py") in copied
    assert (target / "data" / "conversation.jsonl").read_bytes() == (
        ROOT / "examples" / "data" / "conversation.jsonl"
    ).read_bytes()
    assert shell.error("examples", str(target), code=2)["type"] == "Conflict"


def test_the_program_helps_and_tells_its_version() -> None:
    """--help documents the exit codes, and that of capture the files it takes."""
    assert "exit codes:" in program("--help").stdout
    assert "conversations.json" in program("capture", "--help").stdout
    assert program("--version").stdout.startswith("memcube ")
    wrong = program("nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


def test_a_reader_that_leaves_is_no_error(shell: Shell, tmp_path: Path) -> None:
    """`memcube list | head` says nothing about the pipe."""
    shell("capture", written(tmp_path / "x.jsonl", [turn(f"turn {n} " + "words " * 200) for n in range(400)]))
    command = [sys.executable, "-m", "memos_engine.cli", "--root", str(shell.root), "list", "--limit", "400"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert not child.stderr.read()
        assert child.wait(timeout=60) == 0


def test_json_is_utf_8_whatever_the_locale(shell: Shell, tmp_path: Path) -> None:
    """JSON leaves in UTF-8 even where the terminal speaks another encoding."""
    shell("capture", written(tmp_path / "x.jsonl", [turn("我喜欢茶 🍵")]))
    words = ("--root", str(shell.root), "list", "--kind", "episode")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    assert json.loads(program(*words, "--json", env=env).stdout)["items"][0]["text"] == "我喜欢茶 🍵"
    plain = program(*words, env=env)
    assert (plain.returncode, plain.stderr) == (0, "")


def test_the_page_tells_every_command() -> None:
    """docs/cli.md has a row for each command, and the help lists the same."""
    page, told = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), program("--help").stdout
    for name in commands.COMMANDS:
        assert f"| `{name}" in page
        assert f"\n    {name} " in told
