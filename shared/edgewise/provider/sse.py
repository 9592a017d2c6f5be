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

_BOM = b"\xef\xbb\xbf"
Event = tuple[bytes, bytes]


class EventTooLong(Exception):
    """One event has more bytes than allowed."""


class EventParser:
    """Feed it bytes; it gives `(event name, data)`. The name is b'' unless the stream tells one."""

    __slots__ = ("_after_cr", "_bom_left", "_data", "_fresh", "_held", "_max_bytes", "_name", "_size", "_too_long")

    def __init__(self, max_bytes: int = 16_000_000) -> None:
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        """What has come of the current line."""
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        """Bytes of the current event, held ones included."""
        self._after_cr = False
        self._bom_left = _BOM
        self._too_long = False
        self._fresh = False
        """Between two events, with nothing held: the usual state, which has a short cut."""

    def feed(self, read: bytes) -> list[Event]:
        """The events that `read` completes. Raises `EventTooLong` once those before the long one are given out."""
        if self._fresh and read[:6] == b"data: " and read[-2:] == b"\n\n" and len(read) <= self._max_bytes:
            # One whole event a read is what a provider sends while its model speaks.
            data = read[6:-2]
            if b"\n" not in data and b"\r" not in data:
                return [(b"", data)]
        return self._feed(read)

    def _feed(self, read: bytes) -> list[Event]:
        if self._too_long:
            raise EventTooLong
        if self._bom_left:
            read = self._without_bom(read)
        if self._after_cr and read:
            self._after_cr = False
            if read[0] == 10:
                read = read[1:]
        if b"\r" in read:
            self._after_cr = read[-1] == 13
            read = read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = read.split(b"\n")
        events: list[Event] = []
        for line in lines:
            self._size += len(line)
            if self._held:
                self._held.append(line)
                whole = b"".join(self._held)
                self._held.clear()
            else:
                whole = line
            if self._size > self._max_bytes:
                return self._stopped(events)
            self._line(whole, events)
        if rest:
            self._held.append(rest)
            self._size += len(rest)
            if self._size > self._max_bytes:
                return self._stopped(events)
        self._fresh = not (self._held or self._data or self._name or self._after_cr or self._bom_left or self._size)
        return events

    def _stopped(self, events: list[Event]) -> list[Event]:
        self._too_long, self._fresh = True, False
        if not events:
            raise EventTooLong
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
                self._data.clear()
            self._name, self._size = b"", 0
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[7:] if line[6:7] == b" " else line[6:]
        elif line == b"data":
            self._data.append(b"")

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
