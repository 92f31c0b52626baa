"""What may be typed: the commands of `memcube`, their options and their help. Does no work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn, Protocol

from memos_engine.cli.transcripts import FORMATS
from memos_engine.cube import SEARCH_LIMIT, TREE_LIMIT
from memos_engine.errors import BadInput
from memos_engine.fields import KINDS
from memos_engine.recall.abstain import SILENT_BELOW
from memos_engine.talking import BUDGET_TOKENS

DISTRIBUTION = "memos-adapters"
ROOT = Path("memories")
CUBE = "default"
LIST_LIMIT = 20
EXAMPLES = Path("memos-examples")

_EXIT_CODES = """\
exit codes:
  0    done
  1    nothing was found, or `check` found problems, or you said no
  2    bad usage or input
  3    not found, or access denied
  4    the store, an archive or the model failed
  130  interrupted
"""
_CAPTURE = """\
FILE is one of (seen by its beginning, or said by --format):
  jsonl     one message a line: {"role", "text" or "content", and if there are "id", "name", "at" (ISO 8601
            with a zone, or seconds since 1970), "session" or "thread"}; read line by line, of any length
  messages  a JSON list of such messages, or {"messages": [...]}
  chatgpt   conversations.json of a ChatGPT export: what stands in each conversation's current branch

A message belongs to its own session or thread, else to --thread, else to the file's name. Messages are
captured in batches, each durable, and a message is captured once per thread and id: run it again after an
interruption, or when the file has grown. A message without an id is known by its place in the file (its id
becomes line-<n>), so only append to such a file. From `-` it is captured on every run.
"""


class UsageError(BadInput):
    """What was typed is no command line of `memcube`."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that errors are told in one place."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. Try: {self.prog} --help")


class _Adder(Protocol):
    def __call__(self, name: str, told: str, more: str = "") -> argparse.ArgumentParser: ...


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options and the command that were typed.

    Raises:
        UsageError: they are none.
        SystemExit: help or version was asked for, and printed.
    """
    return _parser().parse_args(words)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="memcube",
        description="Memory for language-model agents in one local folder.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"memcube {_version()}")
    _add_options(parser, hidden=False)
    parser.set_defaults(root=ROOT, cube=None, owner=None, user=None, model=None, json=False)
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_options(common, hidden=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, told: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=told, description=f"{told[0].upper()}{told[1:]}.", epilog=more, parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip

    _add_memories(command)
    _add_upkeep(command)
    return parser


def _add_options(parser: argparse.ArgumentParser, *, hidden: bool) -> None:
    """The options of every command: before it or behind it, told in the help once."""
    for name, metavar, told in (
        ("--root", "FOLDER", f"where the memories are (default: ./{ROOT})"),
        ("--cube", "NAME", f"which cube (default: {CUBE})"),
        ("--owner", "PRINCIPAL", "whose cube, as `cubes` lists it: root, or user:NAME (default: your own)"),
        ("--user", "NAME", "act as this user (default: as the owner of the folder)"),
        ("--model", "MODEL", "folder or name of the sentence model (default: all-MiniLM-L6-v2)"),
    ):
        parser.add_argument(
            name,
            metavar=metavar,
            help=argparse.SUPPRESS if hidden else told,
            type=Path if name == "--root" else str,
        )
    parser.add_argument(
        "--json", action="store_true", help=argparse.SUPPRESS if hidden else "print one JSON document"
    )


def _add_memories(command: _Adder) -> None:
    capture = command("capture", "make a file of messages memory", _CAPTURE)
    capture.add_argument("file", metavar="FILE", help="the file, or - for standard input")
    capture.add_argument(
        "--thread", help="conversation of messages that name none (default: the file's name)"
    )
    capture.add_argument(
        "--format", choices=FORMATS, help="what the file is (default: seen by its beginning)"
    )

    recall = command("recall", "what is needed for a query, ready for a prompt")
    recall.add_argument("query", metavar="QUERY")
    recall.add_argument(
        "--budget", type=int, default=BUDGET_TOKENS, metavar="N",
        help="tokens the text may cost, counted as UTF-8 bytes, an upper bound (default: %(default)s)",
    )  # fmt: skip

    recall.add_argument(
        "--min-score", type=float, default=SILENT_BELOW, metavar="P",
        help="stay silent when the answer is here with less than this probability; 0: never (default: %(default)s)",
    )  # fmt: skip
    recall.add_argument(
        "--explain", action="store_true",
        help="tell how the query was understood, where each line comes from, and what nearly made it",
    )  # fmt: skip

    search = command("search", "the best memories for a query, with the reason of each")
    search.add_argument("query", metavar="QUERY")
    _add_choice(search, SEARCH_LIMIT)

    _add_choice(command("list", "the memories, newest first"), LIST_LIMIT)

    tree = command("tree", "what the memories are about: topics, people and things, and what is said of them")
    tree.add_argument("--depth", type=int, metavar="N", help="show N levels (default: all)")
    tree.add_argument(
        "--limit",
        type=int,
        default=TREE_LIMIT,
        metavar="N",
        help="at most N nodes below one (default: %(default)s)",
    )

    show = command("show", "one memory with its history, or what a cube file says of itself")
    show.add_argument("what", metavar="ID|PATH", help="a memory's id, or a path that `dump` wrote")

    forget = command("forget", "erase memories everywhere, with what is derived only from them")
    forget.add_argument("ids", metavar="ID", nargs="+")
    forget.add_argument("--sources", action="store_true", help="and the turns that they were derived from")
    forget.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")


def _add_choice(parser: argparse.ArgumentParser, limit: int) -> None:
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help="at most N (default: %(default)s)"
    )
    parser.add_argument(
        "--kind", choices=KINDS, action="append", metavar="KIND", dest="kinds",
        help=f"only this kind, may be repeated: {', '.join(KINDS)}",
    )  # fmt: skip


def _add_upkeep(command: _Adder) -> None:
    dump = command("dump", "write a cube to a folder, or to one file when PATH ends in .tar.zst")
    dump.add_argument("path", metavar="PATH", type=Path)
    dump.add_argument(
        "--kinds", choices=KINDS, nargs="+", metavar="KIND", help=f"only these kinds: {', '.join(KINDS)}"
    )
    dump.add_argument("--overwrite", action="store_true", help="replace what stands at PATH")

    load = command("load", "make a new cube out of what `dump` wrote")
    load.add_argument("path", metavar="PATH", type=Path)
    load.add_argument("--name", help="what to call it (default: as it was called)")

    command("check", "compare a cube with itself and its indexes; all of your own without --cube")
    command("stats", "counts and sizes of a cube")
    command("cubes", "the cubes that you may see")

    examples = command("examples", "copy the examples into a folder of yours")
    examples.add_argument(
        "folder", metavar="FOLDER", type=Path, nargs="?", default=EXAMPLES, help="(default: ./%(default)s)"
    )


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"
