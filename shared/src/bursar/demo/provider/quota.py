"""What one API key may do: all its limits, judged at once, and everything that happened to it, counted.

A call is judged when its request has arrived in full. It is admitted when every limit has room for it and is then
charged; otherwise it is a violation of every limit that had no room, and charged nothing. Output that is charged as it
is produced can go over its limit after admission; each such charge is an `overrun`, counted as a violation too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .settings import Limits, Settings
from .windows import Window, window_of

CONCURRENCY_RETRY_MS = 250
"""What a caller over the concurrency limit is told to wait: nobody knows when a call will end."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may run; ``number`` is its line in the key's log."""

    number: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The call is over these limits; ``retry_ms`` is None when waiting does not help."""

    dimensions: tuple[str, ...]
    retry_ms: int | None


@dataclass(slots=True)
class Charge:
    """One line of the log of a key: when, for which job, and its tokens. ``done``: answered completely and well."""

    at_ms: int
    input_tokens: int
    output_tokens: int
    job: str
    done: bool = False


@dataclass(slots=True)
class Tokens:
    """Totals of some calls."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class Quota:
    """The state of one key."""

    def __init__(self, limits: Limits, settings: Settings) -> None:
        self._limits, self._settings = limits, settings
        self.windows: dict[str, Window] = {}
        for name in ("requests", "input_tokens", "output_tokens"):
            limit: int | None = getattr(limits, name)
            if limit is not None:
                self.windows[name] = window_of(settings.window, limit, settings.window_ms)
        self.running = 0
        self.running_max = 0
        self.violations: Counter[str] = Counter()
        self.rejected_at: list[int] = []
        self.overruns = 0
        self.log: list[Charge] = []
        self.admitted = Tokens()
        self.completed = Tokens()
        self.output_log: list[tuple[int, int]] = []
        self.completions: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()

    def admit(self, now: int, input_tokens: int, max_tokens: int, job: str = "") -> Admitted | Rejected:
        """Judge one call at ``now`` and charge it when it fits; ``job`` is its name, empty when it has none."""
        by_max = self._settings.output_charge == "max_tokens"
        asked = {"requests": 1, "input_tokens": input_tokens, "output_tokens": max_tokens if by_max else 1}
        waits = {name: window.wait_ms(now, asked[name]) for name, window in self.windows.items()}
        over = [name for name, wait in waits.items() if wait != 0]
        full = self._limits.concurrency is not None and self.running >= self._limits.concurrency
        if over or full:
            return self._reject(now, over, full, waits)
        self._charge(now, "requests", 1)
        self._charge(now, "input_tokens", input_tokens)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        self.log.append(Charge(now, input_tokens, 0, job))
        self.admitted.calls += 1
        self.admitted.input_tokens += input_tokens
        if by_max:
            self._charge_output(now, max_tokens)
        return Admitted(len(self.log) - 1)

    def produce(self, now: int, number: int, tokens: int) -> None:
        """``tokens`` of output of that call exist since now."""
        self.log[number].output_tokens += tokens
        self.admitted.output_tokens += tokens
        if self._settings.output_charge == "produced":
            self._charge_output(now, tokens)
            window = self.windows.get("output_tokens")
            if window is not None and window.used(now) > window.limit:
                self.overruns += 1

    def end(self, number: int, *, done: bool) -> None:
        """That call is over; ``done``: its answer went out whole and was no error."""
        self.running -= 1
        charge = self.log[number]
        charge.done = done
        if not done:
            return
        self.completed.calls += 1
        self.completed.input_tokens += charge.input_tokens
        self.completed.output_tokens += charge.output_tokens
        if charge.job:
            self.completions[charge.job] += 1

    def _reject(self, now: int, over: list[str], full: bool, waits: dict[str, int | None]) -> Rejected:
        names = (*over, "concurrency") if full else tuple(over)
        self.violations.update(names)
        self.rejected_at.append(now)
        if self._settings.rejected_count:
            self._charge(now, "requests", 1)
        if any(waits[name] is None for name in over):
            return Rejected(names, None)
        longest = max((waits[name] or 0 for name in over), default=0)
        return Rejected(names, max(longest, CONCURRENCY_RETRY_MS) if full else longest)

    def _charge(self, now: int, name: str, units: int) -> None:
        window = self.windows.get(name)
        if window is not None:
            window.charge(now, units)

    def _charge_output(self, now: int, tokens: int) -> None:
        self._charge(now, "output_tokens", tokens)
        self.output_log.append((now, tokens))
