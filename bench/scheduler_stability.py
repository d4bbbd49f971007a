"""Which disciplines are stable up to their capacity: a sweep of the load, in virtual time, seeded.

*Batches* (Li, Dai and Peng, arXiv 2504.07347): calls of m_p prompt and m_d answer tokens come to an engine that works
in batches of at most b tokens; a batch of n takes c + a max(0, n - b0). Each answer token of a call needs a batch of
its own. Any discipline that keeps batches as full as it can is stable as long as tokens come more slowly than b / t_b.

* ``mixed`` fills each batch with one answer token of each call that is that far, and with prompts (Sarathi-Serve);
* ``prompts first`` makes batches of prompts alone while there are any, then of answer tokens alone (vLLM as it was);
* ``static`` takes up to 32 calls and lets none in before all of them have their last token (FasterTransformer).

*Slots*: the scheduler's own order with each of its placement policies. None of them lets a slot idle while a call
waits, so the capacity is the sum of the workers' speeds, whatever the policy.

A run is *stable* when its backlog does not grow from the second quarter to the last by more than what noise explains.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from bench.scheduler_sim import Call, Fair, capacity, play
from bursar_scheduler.accounts import Who
from bursar_scheduler.placing import POLICIES

BUDGET = 512
FIXED_MS, PER_TOKEN_MS, FREE_TOKENS = 20.0, 0.1, 64
PROMPT, ANSWER = 240, 40
STATIC = 32


def batch_ms(tokens: int) -> float:
    return FIXED_MS + PER_TOKEN_MS * max(0, tokens - FREE_TOKENS)


def batch_capacity() -> float:
    """Calls a second."""
    return BUDGET / batch_ms(BUDGET) * 1_000 / (PROMPT + ANSWER)


class Engine:
    """``waiting``: prompt tokens that are left of each call; ``decoding``: answer tokens that are left."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        self.decoding: list[int] = []
        self.locked: list[int] = []

    def mixed(self) -> int:
        tokens = min(len(self.decoding), BUDGET)
        turn, rest = self.decoding[:tokens], self.decoding[tokens:]
        self.decoding = rest + [left - 1 for left in turn if left > 1]
        return tokens + self._prompts(BUDGET - tokens)

    def prompts_first(self) -> int:
        if self.waiting:
            return self._prompts(BUDGET)
        tokens = min(len(self.decoding), BUDGET)
        turn, rest = self.decoding[:tokens], self.decoding[tokens:]
        self.decoding = rest + [left - 1 for left in turn if left > 1]
        return tokens

    def static(self) -> int:
        if not self.locked and not self.decoding:
            self.locked = [self.waiting.popleft() for _ in range(min(STATIC, len(self.waiting)))]
        if self.locked:
            others, self.waiting = self.waiting, deque(self.locked)
            used = self._prompts(BUDGET)
            self.locked, self.waiting = list(self.waiting), others
            return used
        tokens = len(self.decoding)
        self.decoding = [left - 1 for left in self.decoding if left > 1]
        return tokens

    def _prompts(self, budget: int) -> int:
        """Work on prompts with so many tokens; whose prompt is done has answer tokens to make."""
        used = 0
        while self.waiting and used < budget:
            part = min(self.waiting[0], budget - used)
            used += part
            self.waiting[0] -= part
            if not self.waiting[0]:
                self.waiting.popleft()
                self.decoding.append(ANSWER)
        return used


BATCHING: dict[str, Callable[[Engine], int]] = {
    "mixed": Engine.mixed,
    "prompts_first": Engine.prompts_first,
    "static": Engine.static,
}


def batched(name: str, load: float, seconds: float, seed: int) -> list[int]:
    """How many calls are there, at each arrival, at this share of the capacity of full batches."""
    rng = random.Random(seed)
    engine, step = Engine(), BATCHING[name]
    now, coming = 0.0, rng.expovariate(batch_capacity() * load)
    seen = []
    while coming < seconds:
        while coming <= now:
            engine.waiting.append(PROMPT)
            seen.append(len(engine.waiting) + len(engine.locked) + len(engine.decoding))
            coming += rng.expovariate(batch_capacity() * load)
        tokens = step(engine)
        now = now + batch_ms(tokens) / 1_000 if tokens else coming
    return seen


def slotted(policy: str, load: float, calls: int, seed: int) -> list[int]:
    """How many calls wait, at each arrival, with the scheduler's own order and this policy."""
    rng = random.Random(seed)
    mean_ms = 400
    at, made = 0.0, []
    for number in range(calls):
        at += rng.expovariate(load * capacity() / mean_ms)
        took = max(1, int(rng.expovariate(1 / mean_ms)))
        who = Who("fleet", f"a{rng.randrange(6)}", f"p{rng.randrange(12)}")
        made.append(Call(number, int(at), who, took, "short" if took < mean_ms else "long"))
    return play(made, Fair(policy))


def growth(seen: Sequence[int]) -> float:
    """By how much the mean backlog grows from the second quarter of a run to the last, per arrival between them."""
    quarter = len(seen) // 4
    first, last = seen[quarter : 2 * quarter], seen[-quarter:]
    return (sum(last) / quarter - sum(first) / quarter) / (2 * quarter)


def is_stable(seen: Sequence[int]) -> bool:
    """At 5 % too much load one arrival in twenty stays: a growth of 0.05. A third of that is the bound."""
    return growth(seen) < 0.016


def sweep(scale: float) -> dict[str, Any]:
    """Growth of the backlog of all of them just under capacity and just over."""
    figures: dict[str, Any] = {}
    for name in BATCHING:
        for load in (0.5, 0.8, 0.95, 1.08):
            figures[f"sweep_{name}_{round(load * 100)}"] = round(growth(batched(name, load, 400 * scale, 1)), 4)
    for policy in POLICIES:
        for load in (0.95, 1.08):
            seen = slotted(policy, load, int(4_000 * scale), 1)
            figures[f"sweep_slots_{policy}_{round(load * 100)}"] = round(growth(seen), 4)
    return figures
