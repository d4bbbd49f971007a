"""The worker and its host: heartbeats tell the load, slots follow it, places may change while they are held."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.time import ManualClock
from bursar.client.worker_load import Load
from bursar.client.worker_places import Places
from bursar.client.worker_slots import Reading, SlotRule
from bursar.client.worker_task import WorkerTask
from bursar.contracts.scheduler import Heartbeat
from bursar.errors import CallerError
from tests.client.virtual import run
from tests.client.worker_site import Site, play


class FakeHost:
    """Each task that runs takes ``share`` of the CPU."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.busy = 0

    def read(self) -> Reading:
        return Reading(min(1.0, self.share * self.busy), 0.1)

    async def work(self, _: WorkerTask) -> None:
        self.busy += 1
        await asyncio.sleep(1.5)
        self.busy -= 1


def test_under_a_backlog_the_slots_of_a_worker_bring_its_host_into_the_band() -> None:
    """Registered anew when they change, while tasks run; nothing is lost by that."""
    host = FakeHost(0.04)

    async def test(site: Site) -> None:
        site.worker.task("work")(host.work)
        await site.work()
        handles = [await site.agent.scheduler.submit("work", n) for n in range(400)]
        await asyncio.sleep(25)
        for _ in range(10):
            await asyncio.sleep(1)
            assert site.known.slots == site.worker.slots
            assert len(site.known.attempts) == site.worker.slots
            assert 0.70 <= host.share * site.worker.slots <= 0.85
        for handle in handles:
            await handle.result(60)
        assert site.there.state.counts["lost"] == 0

    play(test, slots=SlotRule(most=64), meter=host)


def test_a_smaller_number_of_slots_waits_for_what_runs() -> None:
    """Neighbours take the machine: nothing is stopped, and nothing new begins."""
    host = FakeHost(0.1)

    async def test(site: Site) -> None:
        site.worker.task("work")(host.work)
        await site.work()
        for n in range(300):
            await site.agent.scheduler.submit("work", n)
        await asyncio.sleep(25)
        assert site.worker.slots in (7, 8)
        host.share = 0.5
        await asyncio.sleep(20)
        assert (site.worker.slots, site.known.slots) == (1, 1)
        assert host.busy <= 1
        assert site.there.state.counts["lost"] == 0

    play(test, slots=SlotRule(), meter=host)


def test_a_worker_that_ends_takes_nothing_new_whatever_its_host_has_room_for() -> None:
    """Nor when the scheduler has forgotten it: no registration says any more that it takes tasks."""
    host = FakeHost(0.04)

    async def test(site: Site) -> None:
        site.worker.task("work")(host.work)

        @site.worker.task("long")
        async def long(_: WorkerTask) -> None:
            host.busy += 1
            await asyncio.sleep(60)

        await site.work()
        await site.agent.scheduler.submit("long")
        await asyncio.sleep(0.5)
        site.worker.stop()
        await asyncio.sleep(0.1)
        for _ in range(5):
            await site.agent.scheduler.submit("work")
        await asyncio.sleep(10)
        site.there.forget_everything()
        await asyncio.sleep(5)
        assert site.there.verbs("work").count("register") == 1
        assert not site.there.state.workers

    play(test, slots=SlotRule(), meter=host, grace=30.0)


def test_heartbeats_tell_the_load_once_a_second() -> None:
    """Of the CPU; operators see it in the scheduler's status."""
    host = FakeHost(0.25)

    async def test(site: Site) -> None:
        site.worker.task("work")(host.work)
        await site.work()
        await site.agent.scheduler.submit("work")
        await asyncio.sleep(1.2)
        (worker,) = (await site.agent.scheduler.status()).workers
        assert worker.load_permille == 250
        before = len([0 for space, *_ in site.there.heard if space == "obs"])
        await asyncio.sleep(5)
        beats = [body for space, _, _, body in site.there.heard if space == "obs"]
        assert len(beats) - before == 5
        assert isinstance(beats[-1], Heartbeat)

    play(test, meter=host)


def test_without_psutil_the_load_is_that_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule for the slots needs it."""
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    places = Places(4)
    places.used = 1
    load = Load(None, places, None, ManualClock().now)
    assert not load.look()
    assert load.permille == 250
    with pytest.raises(CallerError, match="psutil"):
        Load(SlotRule(), places, None, ManualClock().now)


def test_a_meter_that_fails_stops_no_heartbeat() -> None:
    """Nothing changes by it."""

    class Broken:
        def read(self) -> Reading:
            raise OSError("no such file")

    places = Places(4)
    load = Load(SlotRule(), places, Broken(), ManualClock().now)
    assert not load.look()
    assert (load.permille, places.limit) == (0, 4)


def test_places_are_given_in_order_and_their_number_may_change() -> None:
    """Who waits gets one as soon as there are more; with fewer, those that are held stay held."""

    async def main() -> None:
        places, log = Places(1), list[str]()
        leave = asyncio.Event()

        async def hold(name: str) -> None:
            async with places:
                log.append(name)
                await leave.wait()

        held = [asyncio.ensure_future(hold(name)) for name in "abcd"]
        await asyncio.sleep(0.1)
        assert log == ["a"]
        places.limit = 3
        await asyncio.sleep(0.1)
        assert log == ["a", "b", "c"]
        places.limit = 1
        late = asyncio.ensure_future(hold("e"))
        held[0].cancel()
        await asyncio.sleep(0.1)
        assert (places.used, log) == (2, ["a", "b", "c"])
        leave.set()
        await asyncio.gather(*held, late, return_exceptions=True)
        assert log == ["a", "b", "c", "d", "e"]
        assert places.used == 0

    run(main())


def test_a_place_that_is_not_wanted_any_more_goes_to_the_next() -> None:
    """Whether its turn has come or not."""

    async def main() -> None:
        places = Places(1)
        await places.__aenter__()
        waiting = [asyncio.ensure_future(places.__aenter__()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        await places.__aexit__(None, None, None)
        waiting[1].cancel()  # its turn has come, and it has not noticed
        await asyncio.wait(waiting)
        assert [turn.cancelled() for turn in waiting] == [True, True, False]
        assert places.used == 1

    run(main())
