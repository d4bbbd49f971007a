"""How a call ended, from what was raised or answered."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from bursar.client.breaker_cause import Cause, of_exception, of_status
from bursar.client.errors import PermitVoid


class ApiError(Exception):
    """As the SDKs raise it: the status is an attribute."""

    def __init__(self, status: int) -> None:
        self.status_code = status


class APITimeoutError(Exception):
    """As the SDKs call it."""


class APIConnectionError(Exception):
    """As the SDKs raise it, from the error of the transport."""


def status_error(status: int, **headers: str) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "http://x")
    return httpx2.HTTPStatusError("told", request=request, response=httpx2.Response(status, headers=headers))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"), (302, "ok"), (400, None), (404, None), (422, None), (401, "auth"), (402, "auth"), (403, "auth"),
        (408, "timeout"), (504, "timeout"), (429, "rate_limited"), (500, "error"), (502, "error"),
        (503, "overload"), (529, "overload"),
    ],
)  # fmt: skip
def test_a_status_tells_who_is_to_blame(status: int, outcome: str | None) -> None:
    """Client errors say nothing about the target; quota, overload and keys are told apart."""
    assert of_status(status).outcome == outcome
    assert of_exception(ApiError(status)).outcome == outcome
    assert of_exception(status_error(status)).outcome == outcome


def test_retry_after_is_read_in_every_form() -> None:
    """Seconds, milliseconds, or a date against the answer's own date; what cannot be read is nothing."""
    assert of_status(503, {"Retry-After": "3"}) == Cause("overload", 3.0)
    assert of_status(529, {"retry-after-ms": "250"}) == Cause("overload", 0.25)
    dates = {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert of_status(503, dates) == Cause("overload", 30.0)
    assert of_status(503, {"retry-after": "soon"}) == Cause("overload")
    assert of_status(503, 7) == Cause("overload")
    assert of_exception(status_error(503, **{"retry-after": "4"})) == Cause("overload", 4.0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (TimeoutError(), "timeout"),
        (httpx2.ReadTimeout("late"), "timeout"),
        (httpx2.ConnectTimeout("late"), "timeout"),
        (httpx2.PoolTimeout("here"), None),
        (APITimeoutError(), "timeout"),
        (ConnectionRefusedError(), "error"),
        (httpx2.ConnectError("refused"), "error"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (PermitVoid("b", 3.0), None),
        (json.JSONDecodeError("garbage", "", 0), "error"),
        (RuntimeError("provider"), "error"),
    ],
)
def test_an_exception_tells_by_its_class(error: BaseException | None, outcome: str | None) -> None:
    """What is not known counts as an error of the target; what Bursar refused was never sent."""
    assert of_exception(error).outcome == outcome


def test_an_exception_raised_from_another_is_told_by_that() -> None:
    """As the SDKs wrap the errors of their transports; a circle ends."""
    outer = APIConnectionError()
    outer.__cause__ = httpx2.ReadTimeout("late")
    assert of_exception(outer).outcome == "timeout"
    circle = RuntimeError()
    circle.__cause__ = RuntimeError()
    circle.__cause__.__cause__ = circle
    assert of_exception(circle).outcome == "error"
