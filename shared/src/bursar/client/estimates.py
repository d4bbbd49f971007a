"""How long will an answer be? Learned from the answers that came, per agent and model, and how well it was guessed.

Lengths are kept in quantile sketches (`bursar.sketch`) of two generations: the latest `GENERATION` answers and
those before them, so that old habits are forgotten. A guess is the ``quantile`` of both together, rounded up to its
bucket's end: never below the sketch's true quantile, and at most 2.1 % above it.

Who has answered less than `ENOUGH` times is guessed by a wider view: this agent with this model, then the model, then
all, then `DEFAULT_OUTPUT`. A guess never goes above the caller's own maximum of tokens; who uses it sees to that by
`Estimates.reserve`.

How good the guesses are is measured, not assumed: for each agent and model how many answers were longer than what had
been reserved (with a quantile of 0.95 that should be one in twenty), what part of the reserved tokens came back unused,
and what part was used beyond. `Estimates.report` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeVar

from bursar.sketch import Sketch, merged

DEFAULT_OUTPUT: Final = 1_024
QUANTILE: Final = 0.95
GENERATION: Final = 512
ENOUGH: Final = 20
MOST: Final = 1_024
"""Pairs of agent and model, and models, that are remembered; the one that was used longest ago is forgotten."""

Level = Literal["agent", "model", "global", "default"]
K = TypeVar("K")
V = TypeVar("V")


class Guess(NamedTuple):
    """``tokens`` of output, and how widely was looked for it."""

    tokens: int
    level: Level


class Quality(NamedTuple):
    """How well one agent's answers of one model were guessed.

    ``answers``: so many were measured. ``above``: so many were longer than what was reserved; ``above_share`` of all.
    ``reserved`` and ``used``: tokens of all of them. ``refund_share``: the part of the reserved that came back;
    ``overage_share``: what was used beyond, as a part of the reserved. ``guess``: what would be guessed now.
    """

    agent: str
    model: str
    answers: int
    above: int
    above_share: float
    reserved: int
    used: int
    refund_share: float
    overage_share: float
    guess: Guess


class Lengths:
    """The lengths of answers: two generations of sketches, and the last quantile that was asked for."""

    __slots__ = ("_at", "_latest", "_previous", "_quantile", "_tokens")

    def __init__(self) -> None:
        self._latest = Sketch()
        self._previous = Sketch()
        self._quantile = -1.0
        self._at = -1
        self._tokens = 0

    @property
    def count(self) -> int:
        return self._latest.count + self._previous.count

    def add(self, tokens: int) -> None:
        if self._latest.count >= GENERATION:
            self._previous, self._latest = self._latest, Sketch()
            self._at = -1
        self._latest.add(tokens)

    def bound(self, quantile: float) -> int:
        """Not below that quantile; looked up anew after every sixteenth part more of answers."""
        stale = self._latest.count - self._at
        if quantile != self._quantile or self._at < 0 or stale * 16 >= self.count:
            self._tokens = merged((self._latest, self._previous)).bound(quantile)
            self._quantile, self._at = quantile, self._latest.count
        return self._tokens


class Record:
    """What was reserved and used by one agent with one model."""

    __slots__ = ("above", "answers", "lengths", "overage", "refund", "reserved", "used")

    def __init__(self) -> None:
        self.lengths = Lengths()
        self.answers = self.above = self.reserved = self.used = self.refund = self.overage = 0

    def measure(self, reserved: int, used: int) -> None:
        self.answers += 1
        self.reserved += reserved
        self.used += used
        if used > reserved:
            self.above += 1
            self.overage += used - reserved
        else:
            self.refund += reserved - used


class Estimates:
    """What is known of the lengths of answers in one fleet. ``quantile``: of what is guessed (0 to 1)."""

    def __init__(self, quantile: float = QUANTILE, default: int = DEFAULT_OUTPUT) -> None:
        if not 0.0 < quantile <= 1.0:
            raise ValueError("a quantile lies above 0 and is at most 1")
        self.quantile = quantile
        self.default = default
        self._pairs: dict[tuple[str, str], Record] = {}
        self._models: dict[str, Lengths] = {}
        self._all = Lengths()

    def learn(self, agent: str, model: str, used: int, reserved: int | None = None) -> None:
        """An answer had ``used`` tokens; ``reserved``: for it, when something was (otherwise the guess is not judged).
        An answer that was cut off at its maximum counts as what it had."""
        record = _of(self._pairs, (agent, model), Record)
        record.lengths.add(used)
        _of(self._models, model, Lengths).add(used)
        self._all.add(used)
        if reserved is not None:
            record.measure(reserved, used)

    def guess(self, agent: str, model: str, quantile: float | None = None) -> Guess:
        """How many tokens an answer of this model to this agent will have at most, with that probability."""
        q = self.quantile if quantile is None else quantile
        pair = self._pairs.get((agent, model))
        if pair is not None and pair.lengths.count >= ENOUGH:
            return Guess(pair.lengths.bound(q), "agent")
        of_model = self._models.get(model)
        if of_model is not None and of_model.count >= ENOUGH:
            return Guess(of_model.bound(q), "model")
        if self._all.count >= ENOUGH:
            return Guess(self._all.bound(q), "global")
        return Guess(self.default, "default")

    def reserve(self, agent: str, model: str, most: int | None, quantile: float | None = None) -> int:
        """What to reserve for an answer that the caller has limited to ``most`` tokens (None: not at all): the guess,
        never more than that; all of it while nothing has been learned."""
        guess = self.guess(agent, model, quantile)
        if most is None:
            return guess.tokens
        return most if guess.level == "default" else min(most, guess.tokens)

    def report(self) -> list[Quality]:
        """How well was guessed, by agent and model."""
        return [self._quality(agent, model, record) for (agent, model), record in self._pairs.items()]

    def _quality(self, agent: str, model: str, record: Record) -> Quality:
        answers, reserved = max(1, record.answers), max(1, record.reserved)
        return Quality(
            agent, model, record.answers, record.above, record.above / answers, record.reserved, record.used,
            record.refund / reserved, record.overage / reserved, self.guess(agent, model),
        )  # fmt: skip


def _of(known: dict[K, V], key: K, make: Callable[[], V]) -> V:
    """The entry of a key, made if there is none; it is the one used last from now on."""
    found = known.pop(key, None)
    if found is None:
        found = make()
        if len(known) >= MOST:
            del known[next(iter(known))]
    known[key] = found
    return found
