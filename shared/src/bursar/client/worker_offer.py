"""What a worker says of itself: what tasks may need of it, where it is, what it costs."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pydantic import ValidationError

from bursar.contracts.scheduler import Register
from bursar.errors import CallerError


class Has(TypedDict, total=False):
    """All may be left out. ``host`` (the name of this machine), ``numa_node``, ``region``: where it is.
    ``preemptible``: its host may be taken away (spot). ``price``: of a second of one slot, in micro-dollars.
    ``models``: what it has loaded. What its tasks share beside the slots: ``gpu_model``, ``gpu_memory_mib``,
    ``cpu_millis`` (1,000 are one CPU), ``ram_mib``, and ``tokens`` in flight by provider; of what it does not name it
    has none for tasks that need it. ``batch_tokens``: the token budget of its batch, where that has a bound."""

    host: str
    numa_node: int
    region: str
    preemptible: bool
    price: int
    models: Sequence[str]
    gpu_model: str
    gpu_memory_mib: int
    cpu_millis: int
    ram_mib: int
    tokens: Mapping[str, int]
    batch_tokens: int


def offer_of(
    session: str, kind: str, labels: Mapping[str, str], versions: Mapping[str, str], has: Has
) -> dict[str, Any]:
    """A registration but for its classes, slots and attempts. Raises `CallerError` for what cannot be said, TypeError
    for a name that there is not."""
    unknown = has.keys() - Has.__annotations__.keys()
    if unknown:
        raise TypeError(f"a worker has no {', '.join(sorted(unknown))}")
    offer: dict[str, Any] = {
        "session": session, "kind": kind, "labels": dict(labels), "versions": dict(versions),
        **({"host": name} if (name := host_name()) else {}), **has,
    }  # fmt: skip
    if "models" in has:
        offer["models"] = tuple(has["models"])
    _check(offer)
    return offer


def offer_again(offer: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """The same with other models."""
    offer = {**offer, "models": tuple(models)}
    _check(offer)
    return offer


def _check(offer: dict[str, Any]) -> None:
    try:
        Register.model_validate({**offer, "id": "check", "classes": ("check",)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CallerError("bad_request", f"a worker cannot say this of itself: {where}: {first['msg']}") from None


def host_name() -> str:
    """This machine's name as the wire has names; "" when it has none that can be told."""
    name = re.sub(r"[^a-z0-9.-]", "-", platform.node().lower())[:64]
    return name if re.match(r"[a-z0-9]", name) else ""
