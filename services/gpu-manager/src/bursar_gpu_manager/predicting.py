"""Which model will be wanted next: what followed what, for each agent.

An agent's requests name one model after the other; what followed a model is counted, and old counts are halved. A model
is foretold when it followed the last one in at least half of the cases and three times or more. It is only ever a hint:
weights are loaded ahead into room that is free, never in place of something that is there, and the share of hints that
came true is kept beside them; when it is below a third nothing is foretold until it recovers.
"""

from __future__ import annotations

from typing import Any, Final

LEAST: Final = 3
PERCENT: Final = 50
FOLLOWERS: Final = 8
"""So many followers of a model are counted; the rarest goes."""
MODELS: Final = 512
HALVE_AT: Final = 64
TRIED: Final = 20
TRUE_PERCENT: Final = 33


class Predictor:
    """Bounded: `MODELS` models with `FOLLOWERS` each, and as many agents."""

    __slots__ = ("_after", "_hits", "_last", "_told", "_tries")

    def __init__(self) -> None:
        self._after: dict[str, dict[str, int]] = {}
        self._last: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._tries = self._hits = 0

    @property
    def share(self) -> float:
        """Part of the hints that came true; 1 before any was checked."""
        return self._hits / self._tries if self._tries else 1.0

    def see(self, agent: str, model: str) -> None:
        """An agent wants a model; the same one again says nothing."""
        last = self._last.pop(agent, None)
        self._last[agent] = model
        if len(self._last) > MODELS:
            forgotten = next(iter(self._last))
            del self._last[forgotten]
            self._told.pop(forgotten, None)
        if last is None or last == model:
            return
        self._check(agent, last, model)
        counts = self._after.pop(last, {})
        counts[model] = counts.get(model, 0) + 1
        if sum(counts.values()) > HALVE_AT:
            counts = {name: count // 2 for name, count in counts.items() if count > 1}
        if len(counts) > FOLLOWERS:
            del counts[min(counts, key=lambda name: (counts[name], name != model, name))]
        self._after[last] = counts
        if len(self._after) > MODELS:
            del self._after[next(iter(self._after))]

    def next_of(self, agent: str) -> str | None:
        """The model to load ahead; None: nothing is likely enough, or hints have been wrong too often."""
        found = self._likely(self._last.get(agent, ""))
        if found is not None:
            self._told[agent] = found
        return found if self._is_good else None

    @property
    def _is_good(self) -> bool:
        return self._tries < TRIED or 100 * self._hits >= TRUE_PERCENT * self._tries

    def _likely(self, model: str) -> str | None:
        counts = self._after.get(model)
        if not counts:
            return None
        best = max(counts, key=lambda name: (counts[name], name))
        return best if counts[best] >= LEAST and 100 * counts[best] >= PERCENT * sum(counts.values()) else None

    def _check(self, agent: str, last: str, model: str) -> None:
        """Hints are checked whether or not they were acted on, so that they can become good again."""
        told = self._told.pop(agent, None)
        if told is None:
            return
        self._tries, self._hits = self._tries + 1, self._hits + (told == model)
        if self._tries > 2 * TRIED:
            self._tries, self._hits = self._tries // 2, self._hits // 2

    def dump(self) -> Any:
        after = [[model, *counts.items()] for model, counts in self._after.items()]
        return [after, list(self._last.items()), list(self._told.items()), self._tries, self._hits]

    @classmethod
    def load(cls, value: Any) -> Predictor:
        found = cls()
        found._after = {model: dict(counts) for model, *counts in value[0]}
        found._last, found._told = dict(value[1]), dict(value[2])
        found._tries, found._hits = value[3], value[4]
        return found
