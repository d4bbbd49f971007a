"""What `bursar top` knows at one moment, and how it asks: the services themselves, and the monitor for the rest.

Every row keeps the time when its numbers came. A service that does not answer keeps its last rows, which grow old in
sight; so nothing that is shown pretends to be newer than it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from bursar.client.monitor import FleetWatch
from bursar.client.monitor_rows import SOURCES
from bursar.contracts.base import Message
from bursar.contracts.monitor import FLEET, SERVICE
from bursar.contracts.monitor_picture import InstanceRow, StatusReply

FORGET_SECONDS: Final = 300.0
"""An instance that has been away for so long is not shown any more."""

Row = dict[str, Any]


@dataclass
class Frame:
    """Rows by section, each with ``age_ms`` (None: never heard). ``answers``: which services answered just now;
    ``installed``: those that have been seen at all. ``left_out``: rows that the monitor's answer had no room for."""

    who: str
    url: str
    sections: dict[str, list[Row]]
    answers: dict[str, bool]
    is_connected: bool = True
    left_out: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, one key per section."""
        about = {"principal": self.who, "url": self.url, "connected": self.is_connected, "answers": self.answers}
        return {**about, **self.sections, "left_out": self.left_out}


class Looker:
    """Asks everybody at once and remembers the last answers. ``clock``: seconds, never going back."""

    def __init__(self, watch: FleetWatch, who: str, url: str, clock: Callable[[], float]) -> None:
        self._watch = watch
        self._who = who
        self._url = url
        self._clock = clock
        self._instances: dict[tuple[str, str], tuple[InstanceRow, float]] = {}
        self._pages: dict[str, tuple[dict[str, list[Message]], float]] = {}
        self._picture: tuple[StatusReply, float] | None = None
        self._answers: dict[str, bool] = {}
        self._is_connected = True

    async def look(self, timeout: float = 1.0) -> Frame:
        """Ask again; what has not answered within ``timeout`` seconds stays as it was."""
        swept = self._sweep(timeout)
        polled = (self._poll(service, timeout) for service in SOURCES)
        await asyncio.gather(swept, self._ask_monitor(timeout), *polled)
        return self.frame()

    async def _sweep(self, timeout: float) -> None:
        rows = await self._watch.sweep(min(0.3, timeout))
        self._is_connected = rows is not None
        now = self._clock()
        for row in rows or ():
            if row.service in FLEET:
                self._instances[row.service, row.instance] = (row, now)

    async def _poll(self, service: str, timeout: float) -> None:
        rows = await self._watch.rows(service, timeout)
        self._answers[service] = rows is not None
        if rows is not None:
            self._pages[service] = ({name: list(found) for name, found in rows.items()}, self._clock())

    async def _ask_monitor(self, timeout: float) -> None:
        picture = await self._watch.picture(timeout)
        self._answers[SERVICE] = picture is not None
        if picture is not None:
            self._picture = (picture, self._clock())

    # ---- the frame

    def frame(self) -> Frame:
        """What is known now, with its ages."""
        now = self._clock()
        away = [key for key, (_, at) in self._instances.items() if now - at > FORGET_SECONDS]
        for key in away:
            del self._instances[key]
        sections: dict[str, list[Row]] = {}
        for rows, at in self._pages.values():
            for name, found in rows.items():
                sections[name] = list(_aged(found, now - at))
        self._add_picture(sections, now)
        sections["services"] = self._services(now)
        return Frame(
            self._who,
            self._url,
            sections,
            {name: self._answers.get(name, False) for name in FLEET},
            self._is_connected,
            self._picture[0].left_out if self._picture is not None else {},
        )

    def _add_picture(self, sections: dict[str, list[Row]], now: float) -> None:
        """What only the monitor knows: alerts, silences, hosts; and GPUs, where no manager tells of them."""
        if self._picture is None:
            return
        picture, at = self._picture
        for name in ("alerts", "hosts"):
            sections[name] = list(_aged(getattr(picture, name), now - at))
        sections["silences"] = [row.model_dump() for row in picture.silences]
        if not sections.get("devices"):
            sections["devices"] = list(_aged(picture.devices, now - at))

    def _services(self, now: float) -> list[Row]:
        """Instances, those of one service together, the owner first."""
        rows = []
        for row, at in self._instances.values():
            age = round((now - at) * 1000)
            rows.append({**row.model_dump(), "age_ms": age, "is_here": age < 5_000})
        return sorted(rows, key=lambda row: (FLEET.index(row["service"]), not row["owner"], row["instance"]))


def _aged(rows: Iterable[Message], since: float) -> Iterable[Row]:
    for row in rows:
        plain = row.model_dump()
        told = plain.get("age_ms")
        is_unknown = told is None and plain.keys() & {"silent", "alert"}  # the monitor itself has never heard of it
        yield {**plain, "age_ms": None if is_unknown else (told or 0) + round(since * 1000)}
