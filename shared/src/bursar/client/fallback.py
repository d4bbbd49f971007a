"""What to use instead: a chain of targets, and at its end perhaps an answer that needs none.

A chain is data: operators write it into the registry's rules, and every agent follows the same one. Its steps are tried
in order; the first whose circuits let the call go, and whose bulkheads have room, is taken. A step without a target (a
cached or a degraded answer) can always be taken: what that answer is the agent knows itself.

::

    async with breaker.call(breaker.chain("provider-a/eu/gpt-x")) as call:
        if call.target is None:
            answer = call.step.answer or from_cache(prompt)      # call.kind says which kind of step it is
        else:
            answer = await client_of(call.target).post(...)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bursar.errors import CallerError

PRIMARY: Final = "primary"
MAX_STEPS: Final = 16


class Step(NamedTuple):
    """``kind``: primary, region, model, local, cached or degraded. ``target``: None where nothing is called.
    ``answer``: the text of a degraded answer. ``max_age_ms``: how old a cached answer may be (None: any age)."""

    kind: str
    target: str | None
    answer: str = ""
    max_age_ms: int | None = None


class Chain(NamedTuple):
    """Steps in the order in which they are tried."""

    name: str
    steps: tuple[Step, ...]

    def after(self, step: Step) -> Chain | None:
        """What is left when this step has failed; None when it was the last."""
        at = self.steps.index(step) + 1
        return self._replace(steps=self.steps[at:]) if at < len(self.steps) else None


def only(target: str) -> Chain:
    """No fallback: one target."""
    return Chain(target, (Step(PRIMARY, target),))


def of_targets(targets: Iterable[str]) -> Chain:
    """A chain that the caller makes itself. Raises `CallerError` when it has no target, or too many."""
    steps = tuple(Step("model" if n else PRIMARY, target) for n, target in enumerate(targets))
    if not 0 < len(steps) <= MAX_STEPS:
        raise CallerError("bad_request", f"a chain has 1 to {MAX_STEPS} targets")
    return Chain(str(steps[0].target), steps)
