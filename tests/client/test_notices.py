"""What an agent is told: one subscription for all who listen, and nothing that can upset them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.base import NotConnected
from bursar.client.fleet import Fleet
from bursar.client.notices import Notices
from tests.client.fakes import FakeBus, Message
from tests.client.virtual import LoopClock, run

SUBJECT = "bursar.assign.agent-1"


def listening(bus: FakeBus) -> int:
    return sum(sub.subject == SUBJECT for sub in bus.subs)


async def say(bus: FakeBus, data: bytes) -> None:
    bus.answer(Message(SUBJECT, "", data))
    await asyncio.sleep(0.01)


def test_a_notice_goes_to_all_who_listen_to_what_it_is_about() -> None:
    """And to nobody else."""

    async def main() -> None:
        bus = FakeBus()
        notices, heard = Notices(bus), list[Any]()
        await notices.start()
        for name in ("a", "b"):
            notices.listen("ended", lambda body, name=name: heard.append((name, body["task"])))  # type: ignore[misc]
        notices.listen("stop", heard.append)
        await say(bus, msgpack.packb({"v": 1, "what": "ended", "task": "t"}))
        assert heard == [("a", "t"), ("b", "t")]
        assert notices.ignored == 0

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b'{"type":"io.nats.jetstream.api.v1.pub_ack_response","error":{"code":429,"description":"full"}}',
        msgpack.packb({"what": "something new"}),
        msgpack.packb({"what": ["ended"]}),
        msgpack.packb({"task": "t"}),
        msgpack.packb(7),
        msgpack.packb([1, 2]),
        b"\x91" * 3_000,
    ],
)
def test_what_is_nobodys_is_counted_and_nothing_else(data: bytes) -> None:
    """Any agent can make the server say 429 here: it names this subject as its own reply subject."""

    async def main() -> None:
        bus, heard = FakeBus(), list[Any]()
        notices = Notices(bus)
        await notices.start()
        notices.listen("ended", heard.append)
        await say(bus, data)
        assert (heard, notices.ignored) == ([], 1)

    run(main())


def test_a_fleet_listens_once_however_much_of_it_is_used() -> None:
    """The scheduler's and the GPU manager's clients share it; it ends when the last of them has closed."""

    async def main() -> None:
        bus = FakeBus()
        async with Fleet(None, bus=bus, clock=LoopClock()) as fleet:
            assert listening(bus) == 0, "whoever needs no notices pays nothing"
            await asyncio.gather(fleet.gpu.start(), fleet.scheduler.open(), fleet.gpu.start())
            assert listening(bus) == 1
            await fleet.scheduler.close()
            assert listening(bus) == 1
            await fleet.gpu.close()
            assert listening(bus) == 0

    run(main())


def test_a_start_that_failed_may_be_tried_again() -> None:
    """Without a connection nothing was started."""

    async def main() -> None:
        bus = FakeBus()
        notices = Notices(bus)
        subscribe = bus.subscribe

        async def refuse(*_: Any) -> Any:
            raise NotConnected

        bus.subscribe = refuse  # type: ignore[method-assign, assignment]
        with pytest.raises(NotConnected):
            await notices.start()
        bus.subscribe = subscribe  # type: ignore[method-assign]
        await notices.start()
        await notices.close()
        assert listening(bus) == 0

    run(main())
