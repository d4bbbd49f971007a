"""What has to be taken for a task before it starts, all or nothing: room in a budget, a circuit that is closed, memory
of a GPU. Its worker takes it, in its own name, and gives it back when the task ends; each of the three also ends by
itself when the worker is gone."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message

Budget = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$", max_length=128)]
Circuit = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:-]{0,160}$", max_length=161)]
Taken = Literal["requests", "input_tokens", "output_tokens", "concurrent", "usd_micros", "network_bytes"]

MAX_WHY: Final = 200


class Takes(Message):
    """``budget`` of the limiter, and ``amounts`` of it (1 request and 1 call in flight where nothing is said);
    ``circuit``: target of the breaker; ``gpu_bytes``: memory of one GPU that the manager leases, of a card whose name
    has ``gpu_model`` in it. What is null is not taken."""

    budget: Budget | None = None
    amounts: Annotated[dict[Taken, Amount], Field(max_length=6)] = Field(default_factory=dict)
    circuit: Circuit | None = None
    gpu_bytes: Annotated[int, Field(ge=1, le=1 << 50)] | None = None
    gpu_model: Annotated[str, Field(max_length=64)] | None = None
