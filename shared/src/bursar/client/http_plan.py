"""What a provider call is to reserve, and what it counts as when it has ended: by the provider's charge model, and by
what was learned from the answers that came before."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from typing import Any, Final, Literal, NamedTuple

import httpx2

from bursar.client.charge_model import ChargeModel, charge_model
from bursar.client.charges import Charges
from bursar.client.estimate import Estimate, answers_wanted, estimate_input, read_body, stated_output
from bursar.client.estimates import Estimates
from bursar.client.headers import RateLimitHeaders
from bursar.client.http_bytes import kind_of, sent
from bursar.client.permit import Ask, Permit
from bursar.client.usage import CallUsage

Estimator = Callable[[dict[str, Any], Estimate], Estimate]
"""(the request's JSON body, our guess) -> a better guess"""
Price = Callable[[str, int, int], int]
"""(model, input tokens, output tokens) -> millionths of a dollar"""
Budget = str | Callable[[httpx2.Request], str]

DEFAULT_WAIT: Final = 60.0
DEFAULT_TTL: Final = 600.0
ENCODINGS: Final = "gzip, deflate"
OWN: Final = "x-bursar-"
POOL: Final = "{pool}"
"""In the name of a budget: the pool of the model that is called."""
HOST: Final = "{host}"
"""In the name of another object: the host that is called, as one part of a name."""
MACHINE: Final = "{machine}"
"""The same of the host that calls: this one."""


@dataclass(frozen=True)
class Options:
    """How a transport treats its requests. Times in seconds; see `bursar.client.http.http_client`."""

    wait: float = DEFAULT_WAIT
    ttl: float = DEFAULT_TTL
    provider: Literal["auto", "openai", "anthropic"] = "auto"
    estimate: Estimator | None = None
    price: Price | None = None
    charges: Charges = field(default_factory=dict)
    on_headers: Callable[[str, RateLimitHeaders], None] | None = None
    on_refused: Literal["answer", "raise"] = "answer"
    charge_model: str | Path | ChargeModel | None = None
    agent: str = ""
    quantile: float | None = None
    also: tuple[str, ...] = ()
    priority: str = "standard"


class Plan(NamedTuple):
    """One call: what to ask the limiter for, whose it is, and how it counts. ``answers``: so many are wanted.
    ``sent``: bytes of the request; ``kind``: of answers that are about as large."""

    ask: Ask
    agent: str
    model: str
    answers: int
    counts: ChargeModel
    sent: int
    kind: str

    def record(self, permit: Permit, usage: CallUsage, price: Price | None, estimates: Estimates) -> bool:
        """Record on the permit what the call counts as, and learn from it; False when its answer told nothing."""
        tokens_in, produced = self.counts.input_tokens(self.model, usage), usage.output_tokens
        if tokens_in is None:
            return False
        permit.used(input_tokens=tokens_in)
        if produced is None:
            return True
        reserved = permit.amounts["output_tokens"]
        tokens_out = self.counts.output_tokens(reserved, produced)
        permit.used(output_tokens=tokens_out)
        if self.counts.total != "sum":
            permit.used(total_tokens=self.counts.total_tokens(tokens_in, tokens_out))
        if self.answers:
            estimates.learn(self.agent, self.model, produced // self.answers, reserved // self.answers)
        if price is not None:
            permit.used(usd_micros=max(0, price(self.model, tokens_in, produced)))
        return True

    def weigh(self, permit: Permit, moved: int, status: int | None, sizes: Estimates) -> None:
        """Record on the permit how many bytes went over the network, and learn from it. Of a call that was lost or
        broken off (``status`` None) those that were reserved may be on their way still."""
        reserved = self.ask.amounts["network_bytes"]
        if status is not None or moved > reserved:
            permit.used(network_bytes=moved)
        if status is not None and status < 300:
            sizes.learn(self.agent, self.kind, moved - self.sent, reserved - self.sent)


class Planner:
    """Plans the calls of one transport. ``agent``: who calls, where neither options nor request say more."""

    def __init__(self, budget: Budget, options: Options, estimates: Estimates, sizes: Estimates, agent: str) -> None:
        self._budget = budget
        self._options = options
        self._estimates = estimates
        self._sizes = sizes
        self._agent = options.agent or agent
        self._also = tuple(name.replace(MACHINE, _part(gethostname())) for name in options.also)
        self._counts = None if options.charge_model is None else charge_model(options.charge_model)

    def plan(self, request: httpx2.Request) -> Plan:
        """What to reserve for this request; takes our own headers out of it."""
        own = {name[len(OWN) :]: value for name, value in request.headers.items() if name.startswith(OWN)}
        for name in own:
            del request.headers[OWN + name]
        accepted = request.headers.get("accept-encoding", "")
        if "zstd" in accepted or "br" in accepted:
            request.headers["accept-encoding"] = ENCODINGS
        body = _body_of(request)
        counts = self._counts or charge_model(None, request.url.host)
        agent, model = own.get("agent") or self._agent, str(body.get("model", ""))
        wanted = answers_wanted(body, request.url.path)
        guess = self._estimate(body, own, counts, agent, wanted)
        budget = own.get("budget") or (self._budget if isinstance(self._budget, str) else self._budget(request))
        if POOL in budget:
            budget = budget.replace(POOL, counts.pool_of(model, guess.input_tokens))
        wait = _seconds(own.get("wait"), self._options.wait)
        pool = request.extensions.get("timeout", {}).get("pool")
        size, kind = sent(request), kind_of(body)
        amounts = _amounts(guess, counts, size + self._sizes.guess(agent, kind).tokens)
        host = _part(request.url.host)
        also = tuple(name.replace(HOST, host) for name in self._also)
        wait = wait if pool is None else min(wait, pool)
        ask = Ask(budget, amounts, wait, self._options.ttl, None, also, self._options.priority)
        return Plan(ask, agent, model, wanted, counts, size, kind)

    def _estimate(
        self, body: dict[str, Any], own: dict[str, str], counts: ChargeModel, agent: str, wanted: int
    ) -> Estimate:
        options, model = self._options, str(body.get("model", ""))
        guess = Estimate(estimate_input(body), wanted * self._answer(body, counts, agent, model))
        if options.estimate is not None:
            guess = options.estimate(body, guess)
        guess = guess._replace(
            input_tokens=_tokens(own.get("input-tokens"), guess.input_tokens),
            output_tokens=_tokens(own.get("output-tokens"), guess.output_tokens),
        )
        if options.price is not None and not guess.usd_micros:
            guess = guess._replace(usd_micros=options.price(model, guess.input_tokens, guess.output_tokens))
        return guess

    def _answer(self, body: dict[str, Any], counts: ChargeModel, agent: str, model: str) -> int:
        """Tokens to reserve for one answer."""
        most, quantile, rule = stated_output(body), self._options.quantile, counts.output
        is_charged = rule.settle == "reserved" or (rule.reserve == "max_tokens" and quantile is None)
        if most is not None and is_charged:
            return most
        return self._estimates.reserve(agent, model, most, quantile)


def _amounts(guess: Estimate, counts: ChargeModel, size: int) -> dict[str, int]:
    amounts = {
        "requests": 1,
        "input_tokens": guess.input_tokens,
        "output_tokens": guess.output_tokens,
        "concurrent": 1,
        "usd_micros": guess.usd_micros,
        "network_bytes": size,
    }
    if counts.total != "sum":
        amounts["total_tokens"] = counts.total_tokens(guess.input_tokens, guess.output_tokens)
    return amounts


def _part(host: str) -> str:
    """A host's name as one part of the name of an object."""
    return re.sub(r"[^a-z0-9_-]+", "-", host.lower()).strip("-_")[:63]


def _body_of(request: httpx2.Request) -> dict[str, Any]:
    try:
        return read_body(request.content)
    except httpx2.RequestNotRead:
        return {}


def _seconds(text: str | None, default: float) -> float:
    try:
        return min(600.0, max(0.0, float(text))) if text else default
    except ValueError:
        return default


def _tokens(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else default
