"""Deadlines: inherited inwards, told in a header, never lengthened."""

from __future__ import annotations

import asyncio
import copy

import pytest

from bursar.client import deadline
from bursar.client.time import ManualClock
from bursar.errors import CallerError


def test_an_inner_deadline_can_only_be_earlier() -> None:
    """And ends with its block."""
    clock = ManualClock(1_000.0)
    assert deadline.remaining(clock) is None
    assert deadline.check(clock) is None
    with deadline.deadline(10, clock):
        with deadline.deadline(60, clock) as seconds:
            assert seconds == 10.0
            assert deadline.remaining(clock) == 10.0
        with deadline.deadline(4, clock):
            clock.advance(1_000)
            assert deadline.remaining(clock) == 3.0
        assert deadline.remaining(clock) == 9.0
    assert deadline.remaining(clock) is None


def test_tasks_inherit_it() -> None:
    """However deep, and each its own."""

    async def inner() -> float:
        await asyncio.sleep(0)
        return deadline.until()

    async def history() -> None:
        clock = ManualClock()
        with deadline.deadline(5, clock):
            task = asyncio.create_task(inner())
        with deadline.deadline(7, clock):
            other = asyncio.create_task(inner())
        assert (await task, await other) == (5_000.0, 7_000.0)

    asyncio.run(history())


def test_the_header_says_what_is_left_and_the_other_side_goes_on_with_it() -> None:
    """A span: the clocks of two machines have nothing to do with each other."""
    here, there = ManualClock(5_000.0), ManualClock(77.0)
    assert deadline.headers(here) == {}
    with deadline.deadline(2.5, here):
        here.advance(500)
        told = deadline.headers(here)
        assert told == {"bursar-timeout-ms": "2000"}
        here.advance(9_000)
        assert deadline.headers(here) == {"bursar-timeout-ms": "0"}
    left = deadline.from_headers({"Bursar-Timeout-Ms": told[deadline.HEADER]})
    assert left == 2.0
    with deadline.deadline(left, there):
        assert deadline.remaining(there) == 2.0


@pytest.mark.parametrize("text", ["", "-1", "1e3", "٣", "999999999", "2.5", "nan"])
def test_a_header_that_is_no_number_is_none(text: str) -> None:
    """Nothing is made up from it."""
    assert deadline.from_headers({deadline.HEADER: text}) is None
    assert deadline.from_headers({}) is None


def test_what_is_past_its_deadline_is_not_begun() -> None:
    """It is a `TimeoutError`, too, and the caller's own matter."""
    clock = ManualClock()
    with deadline.deadline(1, clock):
        assert deadline.check(clock) == 1.0
        clock.advance(1_250)
        with pytest.raises(TimeoutError) as error:
            deadline.check(clock)
    found = error.value
    assert isinstance(found, deadline.DeadlineExceeded)
    assert (found.code, found.facts, copy.copy(found).late_ms) == ("deadline_exceeded", {"late_ms": 250}, 250.0)
    assert found.advice
    with pytest.raises(CallerError), deadline.deadline(float("nan")):
        pass
