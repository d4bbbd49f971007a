"""Examples of requests: what the catalogue gives, with the fields that every request has."""

from __future__ import annotations

from typing import Any

from bursar.contracts.base import Request
from bursar.contracts.catalog.base import Operation


def sample(operation: Operation, request_id: str = "f3a9-17") -> dict[str, Any]:
    """One whole request, as plain values; ``request_id`` is used where a request has an id."""
    named = {"id": request_id} if issubclass(operation.request, Request) else {}
    return {"v": 1, **named, **operation.example}
