"""`main`: what was typed becomes a command, its outcome is shown, and what went wrong becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from memos_engine.cli.arguments import parsed
from memos_engine.cli.commands import COMMANDS
from memos_engine.cli.render import Screen
from memos_engine.cli.workplace import Workplace
from memos_engine.errors import AccessDenied, BadInput, Conflict, EmbedderMismatch, MemosError, NotFound
from memos_engine.ports import Embedder

BAD_INPUT, NOT_FOUND, FAILED, INTERRUPTED = 2, 3, 4, 130

_CODES: tuple[tuple[type[MemosError], int], ...] = (
    (BadInput, BAD_INPUT),
    (Conflict, BAD_INPUT),
    (EmbedderMismatch, BAD_INPUT),
    (NotFound, NOT_FOUND),
    (AccessDenied, NOT_FOUND),
)


def main(argv: Sequence[str] | None = None, *, embedder: Embedder | None = None) -> int:
    """Run one command of `memcube` and return its exit code.

    Args:
        argv: The words behind `memcube`. None: those of this process.
        embedder: Makes the vectors, whatever `--model` says. None: that, or the engine's default.

    Raises:
        SystemExit: `--help` or `--version` was asked for.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    screen = Screen(as_json="--json" in words)
    try:
        options = parsed(words)
        with Workplace(options, screen, embedder) as work:
            answer = COMMANDS[options.command](work)
            screen.answer(answer)
    except MemosError as exc:
        screen.error(type(exc).__name__, str(exc))
        return next((code for kind, code in _CODES if isinstance(exc, kind)), FAILED)
    except BrokenPipeError:
        _close_stdout()
        return 0
    except OSError as exc:
        screen.error(type(exc).__name__, str(exc))
        return FAILED
    except KeyboardInterrupt:
        screen.error("Interrupted", "interrupted: what was done before stays done")
        return INTERRUPTED
    return answer.code


def _close_stdout() -> None:
    """Nobody reads any more: let the interpreter flush into nothing when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
