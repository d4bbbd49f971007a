"""Bursar: the resource control plane for fleets of AI agents.

::

    import bursar

    async with bursar.connect() as fleet:
        async with fleet.limiter.reserve("openai/gpt", input_tokens=900, output_tokens=400, wait=30) as permit:
            ...

Names are loaded when they are first used: services and tools import parts of this package and pay for nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bursar.client import (
        BadReply,
        Conflict,
        Fleet,
        Limiter,
        LimiterUnavailable,
        NeverFits,
        NoCredentials,
        Permit,
        PermitEnded,
        PermitVoid,
        RateLimitHeaders,
        Refused,
        UnknownBudget,
        connect,
    )
    from bursar.errors import BursarError, CallerError, NetworkError, ServiceError

_ERRORS = ("BursarError", "CallerError", "NetworkError", "ServiceError")

__all__ = [
    "BadReply",
    "BursarError",
    "CallerError",
    "Conflict",
    "Fleet",
    "Limiter",
    "LimiterUnavailable",
    "NetworkError",
    "NeverFits",
    "NoCredentials",
    "Permit",
    "PermitEnded",
    "PermitVoid",
    "RateLimitHeaders",
    "Refused",
    "ServiceError",
    "UnknownBudget",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is used

    value = getattr(import_module("bursar.errors" if name in _ERRORS else "bursar.client"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
