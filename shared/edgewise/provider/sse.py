"""Server-sent events, taken apart as the bytes come in.

Theory. The stream is lines, ended by LF, CR or CRLF; a blank line ends an event. All three endings and the colon are
ASCII, which never occurs inside a UTF-8 sequence, so the work is done on bytes and a character that is split between
two reads needs no care. A CR at the end of a read ends its line at once; a LF that opens the next read then belongs
to it. Only what is not yet a whole line is kept, as pieces that are joined once, so that a long line costs linear time.

Rule: the events are the same however the bytes are cut. What is left when the stream ends is no event (the standard
discards it), which is how a truncated stream shows. No JSON, no I/O, no `[DONE]` here.

Source: WHATWG HTML, § 9.2.6 "Interpreting an event stream". `id` and `retry` are for reconnecting, so they are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """One event has more bytes than allowed."""


class EventParser:
    """Feed it bytes; it yields `(event name, data)`. The name is b'' unless the stream gives one."""

    __slots__ = ("_after_cr", "_bom_left", "_data", "_held", "_held_bytes", "_max_bytes", "_name", "_size")

    def __init__(self, max_bytes: int = 16_000_000) -> None:
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        """What has come of the current line, and how many bytes that is."""
        self._held_bytes = 0
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""
        self._after_cr = False
        self._bom_left = _BOM

    def feed(self, read: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The events that `read` completes. Raises `EventTooLong`, after which the parser is spent.

        Run the iterator to its end before the next `feed`.
        """
        if self._bom_left:
            read = self._without_bom(read)
        if self._after_cr and read:
            self._after_cr = False
            if read[0] == 10:
                read = read[1:]
        if b"\r" in read:
            self._after_cr = read[-1] == 13
            read = read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        start = 0
        while (end := read.find(b"\n", start)) >= 0:
            line = read[start:end]
            start = end + 1
            if self._held:
                self._held.append(line)
                line = b"".join(self._held)
                self._held.clear()
                self._held_bytes = 0
            if line:
                self._line(line)
            elif self._data:
                event = (self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._size = 0
                self._name = b""
                yield event
            else:
                self._name = b""
        if start < len(read):
            self._held.append(read[start:])
            self._held_bytes += len(read) - start
            if self._size + self._held_bytes > self._max_bytes:
                raise EventTooLong

    def _line(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > self._max_bytes:
            raise EventTooLong
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[7:] if line[6:7] == b" " else line[6:]
        else:
            if line == b"data":
                self._data.append(b"")
            if not self._data:
                # Comments between events keep a connection alive for hours; they are not part of one.
                self._size = 0

    def _without_bom(self, read: bytes) -> bytes:
        """The stream's first three bytes may be a mark of byte order, which may itself be cut."""
        while self._bom_left and read and read[0] == self._bom_left[0]:
            self._bom_left = self._bom_left[1:]
            read = read[1:]
        if self._bom_left and read:
            seen = _BOM[: len(_BOM) - len(self._bom_left)]
            self._bom_left = b""
            return seen + read
        return read
