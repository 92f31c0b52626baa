"""`memcube`, the command line: cubes captured, searched, shown, moved and checked from a shell.

`arguments` says what may be typed, `transcripts` reads files of messages, `commands` does the work through
the same calls that programs use, `render` shows the outcome, `program` brings them together. rich is
imported here alone.
"""

from memos_engine.cli.program import main

__all__ = ["main"]
