"""What a task takes: all of it in order or nothing, given back in the other order; judged by what each was told."""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast

import pytest

from bursar.client.breaker_errors import CircuitOpen
from bursar.client.errors import _PLACE, _TOLD, NeverFits, Refused
from bursar.client.fleet import Fleet
from bursar.client.gpu_errors import GpuRefused
from bursar.client.worker_saga import LONGEST, NotNow, take
from bursar.contracts import scheduler as wire
from bursar.errors import CallerError
from tests.scheduler.desk import Desk

ALL = {"budget": "provider", "amounts": {"input_tokens": 9}, "circuit": "provider/eu", "gpu_bytes": 1_024}


class Thing:
    """A circuit, a lease or a permit that writes down what it is told; entering may fail, or last for ever."""

    def __init__(self, name: str, log: list[str], fault: BaseException | str | None) -> None:
        self._name = name
        self._log = log
        self._fault = fault
        self.state = "held"

    async def __aenter__(self) -> Self:
        if isinstance(self._fault, BaseException):
            raise self._fault
        if self._fault == "hangs":
            await asyncio.sleep(3_600)
        self._log.append(f"{self._name} taken")
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._log.append(f"{self._name} {'back' if kind is None else 'undone'}")

    def ignore(self) -> None:
        self._log.append(f"{self._name} ignored")

    def sent(self) -> None:
        if self._fault == "void":
            raise CallerError("permit_void", "too late")
        self.state = "sent"
        self._log.append(f"{self._name} sent")


class Services:
    """Stands where a fleet does; the three client ports give what the test wants."""

    def __init__(self, **faults: Any) -> None:
        self.log: list[str] = []
        self._faults = faults
        self.asked: dict[str, Any] = {}
        self.breaker = self.gpu = self.limiter = self

    def _thing(self, name: str, **asked: Any) -> Thing:
        self.asked[name] = asked
        return Thing(name, self.log, self._faults.get(name))

    def call(self, target: str) -> Thing:
        return self._thing("circuit", target=target)

    def lease(self, memory: int, **more: Any) -> Thing:
        return self._thing("gpu", memory=memory, **more)

    def reserve(self, budget: str, **more: Any) -> Thing:
        return self._thing("permit", budget=budget, **more)

    @property
    def fleet(self) -> Fleet:
        return cast("Fleet", self)


def refused(reason: str, retry_in_ms: int | None) -> Refused:
    told = dict.fromkeys((*_TOLD, *_PLACE))
    body = {**told, "reason": reason, "retry_in_ms": retry_in_ms, "text": "over the limit"}
    return (NeverFits if reason == "never_fits" else Refused)(body)


NO_ROOM = GpuRefused({"reason": "no_room", "closest": None, "missing": 5, "retry_in_ms": None, "text": "no room"})
OPEN = CircuitOpen("provider/eu", "provider", "open", "failure_rate", 7.5, None)


async def test_all_are_taken_in_order_and_given_back_in_the_other() -> None:
    """Each gets what the task says; the permit counts as sent when the attempt has started."""
    services = Services()
    held = await take(services.fleet, ALL)
    held.sent()
    await held.end(None)
    assert services.log == [
        "circuit taken", "gpu taken", "permit taken", "permit sent", "permit back", "gpu back", "circuit back",
    ]  # fmt: skip
    assert services.asked["permit"]["input_tokens"] == 9
    assert services.asked["gpu"]["memory"] == 1_024


@pytest.mark.parametrize(
    ("fault", "error", "again", "log"),
    [
        ("circuit", OPEN, 7.5, []),
        ("gpu", NO_ROOM, 1.0, ["circuit taken", "circuit ignored", "circuit undone"]),
        (
            "permit", refused("over_limit", 2_500), 2.5,
            ["circuit taken", "gpu taken", "circuit ignored", "gpu undone", "circuit undone"],
        ),
        ("circuit", CircuitOpen("t", "t", "open", "forced", 86_400.0, None), LONGEST, []),
    ],
)  # fmt: skip
async def test_when_one_is_refused_those_before_it_are_given_back(
    fault: str, error: BaseException, again: float, log: list[str]
) -> None:
    """As if nothing had been called; and it is told when another try is worth it."""
    services = Services(**{fault: error})
    with pytest.raises(NotNow) as not_now:
        await take(services.fleet, ALL)
    assert (services.log, not_now.value.again) == (log, again)


@pytest.mark.parametrize("error", [CallerError("unknown_budget", "no such budget"), refused("never_fits", None)])
async def test_what_no_other_try_would_change_is_told_as_it_is(error: BaseException) -> None:
    """And nothing is held."""
    services = Services(permit=error)
    with pytest.raises(type(error)):
        await take(services.fleet, ALL)
    assert services.log[-2:] == ["gpu undone", "circuit undone"]


async def test_an_attempt_that_is_void_meanwhile_holds_nothing() -> None:
    """It is cancelled while it waits for an answer."""
    services = Services(permit="hangs")
    taking = asyncio.ensure_future(take(services.fleet, ALL))
    while len(services.log) < 2:  # noqa: ASYNC110 - it takes as many turns of the loop as it takes
        await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert services.log[2:] == ["circuit ignored", "gpu undone", "circuit undone"]


async def test_what_was_never_started_is_undone() -> None:
    """The scheduler has said no, or the permit was too old by then: refunded, and no failure of the circuit."""
    services = Services(permit="void")
    held = await take(services.fleet, ALL)
    with pytest.raises(CallerError):
        held.sent()
    await held.end(None)
    assert services.log[3:] == ["circuit ignored", "permit undone", "gpu undone", "circuit undone"]


def test_a_task_that_is_given_back_waits_as_long_as_it_is_told_and_counts_nothing() -> None:
    """What it takes reaches every worker, and never comes begun with another's end."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    task = desk.submit(takes={"budget": "provider", "amounts": {"requests": 2}})
    desk.run(first)
    told = desk.notices("w1", "assign")[-1]
    assert (told["task"], told["takes"]) == (task, {"budget": "provider", "amounts": {"requests": 2}})
    body = wire.Release(id=desk.new_id(), task=task, token=told["token"], after_ms=2_000, reason="refused: full")
    assert desk.must(body, "w1")["retry_in_ms"] == 2_000
    assert (desk.where(task), desk.find(task)["error"]) == ("ready", "refused: full")
    desk.beat()
    desk.advance(1_999)
    assert desk.where(task) == "ready"
    desk.beat()
    desk.advance(1)
    assert desk.where(task) == "assigned"
    desk.take_over()
    assert desk.state.tasks[task].takes == {"budget": "provider", "amounts": {"requests": 2}}
    desk.check()
