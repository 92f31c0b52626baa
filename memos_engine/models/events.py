"""Server-sent events out of bytes, as they come (WHATWG HTML, section 9.2.6). Pure: knows no server."""

from __future__ import annotations

__all__ = ["EventReader"]

_BOM = b"\xef\xbb\xbf"


class EventReader:
    r"""Takes a stream in any pieces; gives the data of each event that is whole.

    Lines end at `\n`, `\r\n` or `\r` and nowhere else: what Unicode calls a line break may stand in
    the data. Comments, names, ids and times of events are passed over.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that is not whole
        self._data: list[bytes] = []  # of an event that is not whole
        self._begun = False

    @property
    def held_bytes(self) -> int:
        """How much is held of an event that is not whole."""
        return len(self._rest) + sum(map(len, self._data))

    def fed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in `piece`, in order."""
        self._rest += piece
        if b"\n" not in piece and b"\r" not in piece:
            return []
        lines = bytes(self._rest).splitlines(keepends=True)
        # a `\r` at the end may be half of `\r\n`: it waits as well
        self._rest[:] = b"" if lines[-1].endswith(b"\n") else lines.pop()
        return self._events(lines)

    def ended(self) -> list[bytes]:
        """The data of an event that the stream's end ends: many a server leaves out the last line break."""
        lines = bytes(self._rest).splitlines()
        self._rest.clear()
        return self._events([*lines, b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            text = line.rstrip(b"\r\n")
            if not self._begun:
                self._begun, text = True, text.removeprefix(_BOM)
            name, _, value = text.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not text and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        return events
