"""Tokens to pieces of text while they come: never half a character, never a part of a stop string.

What no message may hold, a NUL or half of a surrogate pair, is shown as U+FFFD.

It knows no model; `decode` is the tokenizer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Pieces"]

_HALF = "\N{REPLACEMENT CHARACTER}"
"""How a tokenizer shows a character whose bytes are not all there yet."""


class Pieces:
    """The text of a growing list of tokens, as pieces that can be shown at once.

    Args:
        decode: Ids to text.
        stop: Strings before the first of which the text ends.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._shown_from = 0
        """Tokens from here on are decoded: a few old ones, whose neighbours decide on a space, and the new."""
        self._new_from = 0
        self._held = ""
        """Text that might be the beginning of a stop string."""
        self.stopped = False
        """A stop string was met; nothing more will come."""

    def add(self, token: int) -> str:
        """Return the text that is certain now and was not before; "" while it is not."""
        self._ids.append(token)
        old = self._decode(self._ids[self._shown_from : self._new_from])
        text = self._decode(self._ids[self._shown_from :])
        if text.endswith(_HALF):
            return ""
        self._shown_from, self._new_from = self._new_from, len(self._ids)
        return _storable(self._certain(text[len(old) :]))

    def rest(self) -> str:
        """Return what was held back, now that no token follows."""
        if self.stopped:
            return ""
        old = self._decode(self._ids[self._shown_from : self._new_from])
        text = self._decode(self._ids[self._shown_from :])
        self._shown_from = self._new_from = len(self._ids)
        certain = self._certain(text[len(old) :])
        held, self._held = self._held, ""
        return _storable(certain + held)

    def _certain(self, text: str) -> str:
        """Return the text up to the first stop string, or up to what may become one."""
        text = self._held + text
        met = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if met:
            self.stopped, self._held = True, ""
            return text[: min(met)]
        keep = max((_begun(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _storable(text: str) -> str:
    """Return the text as a message can hold it."""
    return text.replace("\0", _HALF).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _begun(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
