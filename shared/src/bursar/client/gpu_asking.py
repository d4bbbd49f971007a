"""How the parts of the GPU client ask the manager: one message, within the client's patience, and read the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from bursar.client.errors import BadReply
from bursar.contracts.base import Message

if TYPE_CHECKING:
    from bursar.client.gpu import Gpu

M = TypeVar("M", bound=Message)


async def request(gpu: Gpu, verb: str, /, **fields: Any) -> dict[str, Any]:
    """The answer to a request that may change something. Raises a `BursarError`."""
    await gpu.start()
    return (await gpu.caller.ask(verb, fields, _deadline(gpu))).body


async def ask(gpu: Gpu, verb: str, kind: type[M], /, **fields: Any) -> tuple[M, float]:
    """The same, read; and when it was sent (local ms). Raises a `BursarError`."""
    await gpu.start()
    reply = await gpu.caller.ask(verb, fields, _deadline(gpu))
    return read(kind, reply.body), reply.sent


async def query(gpu: Gpu, verb: str, kind: type[M], /, **fields: Any) -> M:
    """The answer to a question that changes nothing. Raises a `BursarError`."""
    await gpu.start()
    return read(kind, (await gpu.caller.run(gpu.caller.query(verb, fields), _deadline(gpu))).body)


def read(kind: type[M], body: dict[str, Any]) -> M:
    """Raises `BadReply` for what is no such answer."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise BadReply("the answer cannot be read", errors=error.error_count()) from None


def _deadline(gpu: Gpu) -> float:
    return gpu.clock.now() + gpu.patience * 1_000.0
