"""What a model's folder says of its licence, which travels with what is made from the model. Reads text only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LICENCE_FILES", "licence_of"]

LICENCE_FILES = ("README.md", "LICENSE*", "LICENCE*", "*TERMS*", "*Terms*")
"""Patterns of the files that tell it."""
_FIELD = re.compile(r"^(license|license_name|license_link):[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_READ_BYTES = 1 << 16
_CHARS_MAX = 300


def licence_of(folder: Path) -> str | None:
    """The licence by the front matter of the model card, and the first line of a licence's own file.

    None where the folder tells nothing.
    """
    told = [*_of_card(folder / "README.md"), *_of_files(folder)]
    return "; ".join(dict.fromkeys(told))[:_CHARS_MAX] or None


def _of_card(card: Path) -> Iterator[str]:
    text = _beginning(card)
    if text.startswith("---\n"):
        front = text[4:].partition("\n---")[0]
        yield from (value.strip("\"'") for _, value in _FIELD.findall(front))


def _of_files(folder: Path) -> Iterator[str]:
    for pattern in LICENCE_FILES[1:]:
        for path in sorted(folder.glob(pattern)):
            if line := next(filter(None, map(str.strip, _beginning(path).splitlines())), ""):
                yield f"{path.name}: {line}"


def _beginning(path: Path) -> str:
    """The first part of a file; nothing where there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return ""
