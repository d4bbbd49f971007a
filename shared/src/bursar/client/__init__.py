"""What an agent uses. Nothing here imports the kernel or a service."""

from bursar.client.breaker_errors import CircuitOpen
from bursar.client.errors import (
    BadReply,
    BudgetFrozen,
    Conflict,
    LimiterUnavailable,
    NeverFits,
    NoCredentials,
    PermitEnded,
    PermitVoid,
    Refused,
    UnknownBudget,
)
from bursar.client.fleet import Fleet, connect
from bursar.client.headers import RateLimitHeaders
from bursar.client.limiter import Limiter
from bursar.client.permit import Permit, Reservation, Settlement

__all__ = [
    "BadReply",
    "BudgetFrozen",
    "CircuitOpen",
    "Conflict",
    "Fleet",
    "Limiter",
    "LimiterUnavailable",
    "NeverFits",
    "NoCredentials",
    "Permit",
    "PermitEnded",
    "PermitVoid",
    "RateLimitHeaders",
    "Refused",
    "Reservation",
    "Settlement",
    "UnknownBudget",
    "connect",
]
