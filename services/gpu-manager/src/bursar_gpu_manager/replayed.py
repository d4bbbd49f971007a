"""Cards as they were once recorded: a trace is read line by line and played through the port.

A trace is text, one JSON value a line. The first says what it is, ``{"trace": "bursar-gpu", "v": 1}``, and may say more
(``host``, ``note``); each other line is what all cards of a host told at one moment::

    {"at_ms": 500, "cards": [{"card": ["GPU-1", 0, "A card", ""], "memory": [...], "processes": [[...]],
                              "sensors": {...}, "topology": {...}}]}

with the fields of `port` in their order; a sensor that was not known is left out, and a card that did not answer has
nothing but ``card``. `sample_of` makes such a line from any port, so that what was recorded from one adapter plays back
the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bursar.errors import CallerError
from bursar_gpu_manager.port import Card, DeviceLost, DevicePort, Memory, ProcessUse, Sensors, Topology

HEADER: Final = {"trace": "bursar-gpu", "v": 1}
MAX_SAMPLES: Final = 1_000_000


class Moment(NamedTuple):
    """One card at one time; ``memory`` None: it did not answer."""

    card: Card
    memory: Memory | None
    processes: tuple[ProcessUse, ...] | None
    sensors: Sensors
    topology: Topology


class Sample(NamedTuple):
    at_ms: int
    cards: Mapping[str, Moment]


def header(**more: Any) -> str:
    """The first line of a trace."""
    return json.dumps({**HEADER, **more})


def sample_of(port: DevicePort, at_ms: int) -> str:
    """One line of a trace: all that the port tells now."""
    return json.dumps({"at_ms": at_ms, "cards": [_told(port, card) for card in port.cards()]}, separators=(",", ":"))


def _told(port: DevicePort, card: Card) -> dict[str, Any]:
    told: dict[str, Any] = {"card": [card.uuid, card.index, card.model, card.parent]}
    try:
        processes = port.processes(card.uuid)
        return told | {
            "memory": list(port.memory(card.uuid)),
            "processes": None if processes is None else [list(process) for process in processes],
            "sensors": _known(port.sensors(card.uuid)._asdict()),
            "topology": _known(port.topology(card.uuid)._asdict()),
        }
    except DeviceLost:
        return told


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def read_trace(lines: Iterable[str]) -> list[Sample]:
    """Raises `CallerError` (``bad_trace``) with the number of the line that cannot be read."""
    samples: list[Sample] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if number == 1:
                if not value.items() >= HEADER.items():
                    raise ValueError("this is no trace")
                continue
            samples.append(_sample(value))
            if len(samples) > MAX_SAMPLES or (len(samples) > 1 and samples[-2].at_ms > samples[-1].at_ms):
                raise ValueError("too long, or not in order")
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise CallerError("bad_trace", f"line {number} of the trace cannot be read: {error}", line=number) from None
    if not samples:
        raise CallerError("bad_trace", "the trace has no samples", line=0)
    return samples


def _sample(value: Any) -> Sample:
    moments = [_moment(row) for row in value["cards"]]
    return Sample(int(value["at_ms"]), {moment.card.uuid: moment for moment in moments})


def _moment(row: Any) -> Moment:
    uuid, index, model, parent = row["card"]
    card = Card(str(uuid), int(index), str(model), str(parent))
    if "memory" not in row:
        return Moment(card, None, None, Sensors(), Topology())
    sensors, topology = dict(row["sensors"]), dict(row["topology"])
    for fields, name in ((sensors, "throttle"), (topology, "links")):
        if name in fields:
            fields[name] = tuple(fields[name])
    rows = row["processes"]
    processes = None if rows is None else tuple(ProcessUse(*process) for process in rows)
    return Moment(card, Memory(*row["memory"]), processes, Sensors(**sensors), Topology(**topology))


class Replayed:
    """A `DevicePort` that plays a trace. `advance` moves on in the trace's own time; after the end the last sample
    stays, or it begins again (``again``). A card that is not in a sample has been lost."""

    def __init__(self, samples: Sequence[Sample], *, again: bool = False) -> None:
        self.samples = samples
        self.again = again
        self.at = 0
        self._elapsed = samples[0].at_ms
        self._cards: dict[str, Card] = {}
        self._meet()

    @property
    def is_over(self) -> bool:
        return self.at == len(self.samples) - 1

    def cards(self) -> Sequence[Card]:
        return sorted(self._cards.values(), key=lambda card: (card.index, card.uuid))

    def memory(self, uuid: str) -> Memory:
        memory = self._moment(uuid).memory
        assert memory is not None
        return memory

    def processes(self, uuid: str) -> Sequence[ProcessUse] | None:
        return self._moment(uuid).processes

    def sensors(self, uuid: str) -> Sensors:
        return self._moment(uuid).sensors

    def topology(self, uuid: str) -> Topology:
        return self._moment(uuid).topology

    def advance(self, ms: int) -> None:
        self._elapsed += ms
        while not self.is_over and self.samples[self.at + 1].at_ms <= self._elapsed:
            self.at += 1
            self._meet()
        if self.is_over and self.again and self._elapsed > self.samples[-1].at_ms:
            self.at, self._elapsed = 0, self.samples[0].at_ms

    def close(self) -> None:
        """Nothing is held open."""

    def _meet(self) -> None:
        self._cards |= {uuid: moment.card for uuid, moment in self.samples[self.at].cards.items()}

    def _moment(self, uuid: str) -> Moment:
        moment = self.samples[self.at].cards.get(uuid)
        if moment is None or moment.memory is None:
            raise DeviceLost(uuid)
        return moment
