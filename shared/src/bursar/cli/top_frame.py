"""What `bursar top` knows at one moment, and how it asks: the services themselves, and the monitor for the rest.

Every row keeps the time when its numbers came. A service that does not answer keeps its last rows, which grow old in
sight; so nothing that is shown pretends to be newer than it is. What a service said before `top` began to look, the
monitor remembers.
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
HERE_MS: Final = 5_000
"""An instance that was heard within this time is not gone."""

TOLD: Final = ("budgets", "circuits", "devices", "queues", "workers")
"""Sections that services tell themselves; the monitor has their last words."""
WATCHED: Final = ("alerts", "incidents", "slos", "scaling", "hosts")
"""Sections that only the monitor has."""

Row = dict[str, Any]


@dataclass
class Frame:
    """Rows by section, each with ``age_ms`` (None: never heard). ``answers``: which services answered just now.
    ``left_out``: rows that the monitor's answer had no room for."""

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
        """What is known now, with its ages; a section of which nothing is known is empty."""
        now = self._clock()
        away = [key for key, (_, at) in self._instances.items() if now - at > FORGET_SECONDS]
        for key in away:
            del self._instances[key]
        sections: dict[str, list[Row]] = {}
        for rows, at in self._pages.values():
            for name, found in rows.items():
                sections[name] = list(_aged(found, now - at))
        left_out = self._add_picture(sections, now)
        sections["services"] = self._services(now)
        return Frame(
            self._who,
            self._url,
            {name: sections.get(name, []) for name in (*WATCHED, "silences", "services", *TOLD)},
            {name: self._answers.get(name, False) for name in FLEET},
            self._is_connected,
            left_out,
        )

    def _add_picture(self, sections: dict[str, list[Row]], now: float) -> dict[str, int]:
        """What only the monitor knows: alerts, silences, hosts; and what it remembers of services that have told this
        `top` nothing, or of GPUs that no manager tells of. Returns how many rows of these are left out."""
        if self._picture is None:
            return {}
        picture, at = self._picture
        taken = [
            *WATCHED,
            *(name for name in TOLD if name not in sections or (name, sections[name]) == ("devices", [])),
        ]
        for name in taken:
            sections[name] = list(_aged(getattr(picture, name), now - at))
        sections["silences"] = [row.model_dump() for row in picture.silences]
        return {name: picture.left_out[name] for name in taken if picture.left_out.get(name)}

    def _services(self, now: float) -> list[Row]:
        """Instances, those of one service together, the owner first."""
        heard = [{**row.model_dump(), "age_ms": round((now - at) * 1000)} for row, at in self._instances.values()]
        rows = [{**row, "is_here": row["age_ms"] < HERE_MS} for row in (*heard, *self._remembered(now))]
        return sorted(rows, key=lambda row: (FLEET.index(row["service"]), not row["owner"], row["instance"]))

    def _remembered(self, now: float) -> Iterable[Row]:
        """Instances that the monitor has heard not long ago, and this `top` never."""
        if self._picture is None:
            return
        picture, at = self._picture
        for row in _aged(picture.instances, now - at):
            is_recent = row["age_ms"] is not None and row["age_ms"] <= FORGET_SECONDS * 1000
            if is_recent and row["service"] in FLEET and (row["service"], row["instance"]) not in self._instances:
                yield row


def _aged(rows: Iterable[Message], since: float) -> Iterable[Row]:
    for row in rows:
        plain = row.model_dump()
        told = plain.get("age_ms")
        is_unknown = told is None and plain.keys() & {"silent", "alert"}  # the monitor itself has never heard of it
        yield {**plain, "age_ms": None if is_unknown else (told or 0) + round(since * 1000)}
