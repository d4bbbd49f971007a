"""May this target be called now? Looked up in this process's memory.

What is known, the registry's word and what this process sees itself, is turned into one verdict per target, once; from
then on a decision is a look-up, and for a target that is shut a comparison with the time until which that holds.
Whatever changes what is known drops the verdicts (`forget`).

The order of what counts: what the registry says stops calls, as long as its time is not over; then what this process
has seen, which shuts a target here ahead of the fleet; then the share of the calls that a recovering target gets.
While the registry is away its last word holds until its time, and what is tried then is tried by this process alone.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from bursar.client.breaker_local import LocalEvidence
from bursar.client.breaker_registry import Registry
from bursar.client.breaker_verdict import GO, Partly, Share, Stopped, Verdict
from bursar.client.breaker_view import Known
from bursar.client.time import Clock
from bursar.contracts.base import NAME
from bursar.contracts.breaker import PULSE_MS
from bursar.errors import CallerError

MAX_KEPT: Final = 8_192
MAX_NAME: Final = 256
_NAME: Final = re.compile(NAME)


class Hold(NamedTuple):
    """No probe is asked for before ``until`` (local ms) while the circuit is still the one of this revision; or only
    ``freed`` ms after the first word that a permit has come back."""

    revision: int
    until: float
    freed: float = math.inf


class Gates:
    """``verdicts``: what was decided, by target."""

    __slots__ = ("_clock", "_held", "_local", "_paths", "_registry", "_shares", "_view", "_who", "verdicts")

    def __init__(self, clock: Clock, registry: Registry, local: LocalEvidence, who: str) -> None:
        self.verdicts: dict[str, Verdict | Partly] = {}
        self._clock = clock
        self._registry = registry
        self._view = registry.view
        self._local = local
        self._who = who
        self._paths: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, Hold] = {}
        self._shares: dict[str, tuple[int, Share]] = {}

    def forget(self) -> None:
        """Something has changed: look again."""
        self.verdicts.clear()

    def renew(self) -> None:
        """Other groups may stand in the way."""
        self._paths.clear()
        self.forget()

    def path(self, target: str) -> tuple[str, ...]:
        """What stands in the way of a target. Raises `CallerError` for what is no name."""
        known = self._paths.get(target)
        if known is not None:
            return known
        if not _NAME.fullmatch(target) or len(target) > MAX_NAME:
            raise CallerError("bad_request", "a target is a name such as provider/region/model/key", target=target[:64])
        if len(self._paths) >= MAX_KEPT:
            self._paths.clear()
        self._paths[target] = self._registry.policy.way(target)
        return self._paths[target]

    def decide(self, target: str, known: Verdict | Partly | None, *, is_counted: bool = True) -> Verdict:
        """The verdict where it is not simply `GO`. ``is_counted``: a call is about to be made."""
        now = self._clock.now()
        if known is None or now >= known.expires:
            known = self._look(target, now)
        if isinstance(known, Partly):
            return GO if not is_counted or known.share.admits() else known.stopped
        return known

    def _look(self, target: str, now: float) -> Verdict | Partly:
        names = self.path(target)
        alone = now > self._registry.away_at
        stopped = self._said(target, names, now, alone=alone)
        stopped = stopped if stopped is not None else self._seen(target, names, now)
        found = stopped if stopped is not None else self._partly(target, names, now, alone=alone) or GO
        if len(self.verdicts) >= MAX_KEPT:
            self.verdicts.clear()
        self.verdicts[target] = found
        return found

    def _said(self, target: str, names: tuple[str, ...], now: float, *, alone: bool) -> Stopped | None:
        """What the registry has said; an open time that is over here stands for half-open."""
        stopping = self._view.stopping
        found = None
        for name in names if stopping else ():
            row = stopping.get(name)
            if row is None:
                continue
            if row.state == "forced_open" or (row.state == "open" and now < row.until):
                until = None if row.until == math.inf else row.until
                return Stopped(target, name, row.state, row.reason, self._clock, until)
            if alone:
                self._local.inherit(row, now)
            elif found is None or found.may_probe:
                found = self._half_open(target, row, now)
        return found

    def _half_open(self, target: str, row: Known, now: float) -> Stopped:
        hold = self._held.get(row.target)
        until = None
        if hold is not None and hold.revision == row.revision and hold.until > now:
            until = min(hold.until, now + PULSE_MS)  # the next pulse may say that there is a permit
        told = (target, row.target, "half_open", row.reason, self._clock, until)
        return Stopped(*told, may_probe=until is None, expires=self._registry.away_at)

    def _seen(self, target: str, names: tuple[str, ...], now: float) -> Stopped | None:
        """What this process has seen itself."""
        shut = self._local.in_the_way(names, now) if self._local.shut else None
        return None if shut is None else Stopped(target, shut[0], "local", "consecutive", self._clock, shut[1])

    def _partly(self, target: str, names: tuple[str, ...], now: float, *, alone: bool) -> Partly | None:
        """The smallest share of what recovers on the way, as long as somebody can say that it has grown."""
        rows = [row for name in names if (row := self._view.partly.get(name)) is not None]
        rows = [row for row in rows if not (alone and now >= row.until)]
        if not rows:
            return None
        row = min(rows, key=lambda row: row.share)
        told = (target, row.target, row.state, row.reason, self._clock)
        return Partly(self._share(row), Stopped(*told, None), max(row.until, self._registry.away_at))

    def _share(self, row: Known) -> Share:
        kept = self._shares.get(row.target)
        if kept is None or kept[0] != row.revision:
            kept = (row.revision, Share(row.share, f"{self._who} {row.target} {row.revision}"))
            if len(self._shares) >= MAX_KEPT:
                self._shares.clear()
            self._shares[row.target] = kept
        return kept[1]

    # ---- who waits for a probe

    def hold_off(self, circuit: str, ms: float, freed: float = math.inf) -> None:
        """Ask for no probe there for a while, unless the circuit changes: others have them. ``freed``: for how long
        (ms) after it was heard that a permit is free."""
        row = self._view.known.get(circuit)
        if row is None:
            return
        if len(self._held) >= MAX_KEPT:
            self._held.clear()
        self._held[circuit] = Hold(row.revision, self._clock.now() + ms, freed)
        self.forget()

    def hold_less(self, circuit: str) -> None:
        """A permit has come back there: who waits may ask soon. What is said again hurries nobody."""
        hold = self._held.get(circuit)
        if hold is not None and hold.freed < math.inf:
            self._held[circuit] = hold._replace(until=min(hold.until, self._clock.now() + hold.freed), freed=math.inf)
            self.forget()

    def hold_no_more(self, circuits: tuple[str, ...]) -> None:
        for circuit in circuits:
            if self._held.pop(circuit, None) is not None:
                self.forget()
