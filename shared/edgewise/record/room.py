"""The record room: one line per request, counts in the process, and sums that other processes can add up.

A note is cheap and never fails a request: what goes wrong here is counted here. Text of requests and answers never
arrives in this room (a `Note` has none), so it cannot leave it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import orjson

from edgewise.clock import Clock
from edgewise.mishap import kind_and_place
from edgewise.record.counters import Counters
from edgewise.record.emf import UNITS, embed, is_emf, metrics_of
from edgewise.record.line import name_only, own_of, written
from edgewise.settings import Settings
from edgewise.words import Note

MOST_MODELS = 50

Out = Callable[[bytes], object]
Observer = Callable[[Note, dict[str, float]], None]


class RecordRoom:
    """Implements `edgewise.rooms.Record`.

    out       takes one line at a time, newline and all; None writes no line
    emf       put the metrics on the line for CloudWatch to find
    observers told of every note with its metrics: roll-ups, the console's live list
    """

    def __init__(
        self,
        clock: Clock,
        *,
        service: str = "edgewise",
        out: Out | None = None,
        emf: bool = False,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.counters = Counters()
        self._clock = clock
        self._service = service
        self._out = out
        self._emf = emf
        self._observers = list(observers)
        self._models: set[str] = set()

    def watch(self, observer: Observer) -> None:
        """Also tell `observer` of every note from now on."""
        self._observers.append(observer)

    def note(self, note: Note) -> None:
        """Record one request."""
        try:
            self._note(note)
        except Exception:  # noqa: BLE001 — a record that fails must not take the answer with it; it is counted
            self.counters.add("RecordFailed")

    def _note(self, note: Note) -> None:
        values = metrics_of(note)
        self.counters.add_all(values)
        if self._out is not None:
            own = own_of(note)
            if self._emf:
                embed(own, values, service=self._service, at=note.at, model=self._label(note.model))
            self._out(written(note, own))
        for observer in self._observers:
            observer(note, values)

    def _label(self, model: str) -> str | None:
        """The model as a dimension: at most `MOST_MODELS` of them, since each is a billed metric and a client may be
        free to make names up."""
        if not model or model in self._models:
            return model or None
        if len(self._models) >= MOST_MODELS or name_only(model) != model:
            return "other"
        self._models.add(model)
        return model

    def signal(self, name: str, value: float = 1) -> None:
        """Record a metric that belongs to no request (a ban, a budget's level, an eviction). Names: `emf.UNITS`."""
        if name not in UNITS:
            self.counters.add("RecordFailed")
            return
        self.counters.add(name, value)
        if self._out is not None and self._emf:
            line: dict[str, Any] = {}
            embed(line, {name: value}, service=self._service, at=self._clock.now())
            self._out(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def failed(self, error: BaseException) -> None:
        """Record work behind a request that failed: nobody waits for it, so this line is all that tells of it."""
        self.signal("BackgroundFailed")
        if self._out is not None:
            told = {"time": round(self._clock.now(), 3), "error.type": name_only(kind_and_place(error))}
            line = {"level": "ERROR", "message": "background", **told}
            self._out(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def to_stdout(line: bytes) -> None:
    """Write and flush: a Lambda environment may freeze right after the answer."""
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def open_record(settings: Settings, *, clock: Clock) -> RecordRoom:
    """The room as the settings describe it: metrics on the line when this runs on Lambda."""
    return RecordRoom(
        clock,
        service=f"edgewise-{settings.stage}",
        out=to_stdout if settings.request_log else None,
        emf=is_emf(settings),
    )
