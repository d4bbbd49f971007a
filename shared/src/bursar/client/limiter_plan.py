"""Questions that an agent plans with: how much room there is, and what would happen if. They change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from bursar.client.errors import BadReply
from bursar.contracts.limiter import StatusReply
from bursar.contracts.limiter_control import Simulated

if TYPE_CHECKING:
    from bursar.client.limiter import Limiter

Answer = TypeVar("Answer", bound=BaseModel)


async def status(limiter: Limiter, fields: dict[str, Any]) -> StatusReply:
    """Limits, use and headroom; the answer also tells the limiter's time."""
    return await _ask(limiter, "status", fields, StatusReply)


async def simulate(limiter: Limiter, fields: dict[str, Any]) -> Simulated:
    """How many of some requests would fit now, and when the next."""
    return await _ask(limiter, "simulate", fields, Simulated)


async def _ask(limiter: Limiter, verb: str, fields: dict[str, Any], shape: type[Answer]) -> Answer:
    """Raises `BadReply` for an answer that cannot be read, `LimiterUnavailable`, or what the limiter refuses with."""
    call = limiter.caller.query(verb, fields)
    reply = await limiter.caller.run(call, limiter.clock.now() + limiter.patience * 1000.0)
    try:
        answer = shape.model_validate(reply.body)
    except ValidationError as error:
        raise BadReply(f"the answer to {verb} cannot be read", errors=error.error_count()) from None
    limiter.caller.offsets.of(reply.epoch).learn(reply.sent, reply.body["now_ms"])
    return answer
