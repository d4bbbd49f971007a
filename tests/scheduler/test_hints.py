"""What tasks need and what is better for them decides who gets them, through the whole scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_explain import Why
from bursar_scheduler.fleet import Region
from bursar_scheduler.prefixes import MAX_BLOCKS, MAX_HOLDERS, Prefixes
from bursar_scheduler.regions import Regions
from tests.scheduler.desk import Desk

HASHES = ("h1", "h2", "h3")


def placed(desk: Desk, **fields: Any) -> str:
    """Who gets such a task; it is over then."""
    task = desk.submit(**fields)
    worker = desk.worker(task)
    desk.run(task)
    return worker


@pytest.mark.parametrize(
    "needs", [{"host": "box-2"}, {"region": "eu"}, {"model": "m"}, {"host": "box-2", "model": "m"}]
)
def test_a_place_or_a_model_that_is_needed_is_waited_for(needs: dict[str, Any]) -> None:
    """Others stay idle rather than run it; why tells what they lack."""
    desk = Desk()
    desk.register("w1", 4, host="box-1", region="us", labels={"region": "eu", "host": "box-2"})
    task = desk.submit(needs=needs)
    assert desk.where(task) == "ready"
    told = desk.hears(Why(task=task))
    assert told["cause"] == "no_worker"
    assert told["holds"][0]["lacks"] == ("model" if needs == {"model": "m"} else "locality")
    desk.register("w2", 1, host="box-2", region="eu", models=("m", "n"))
    assert desk.worker(task) == "w2"
    desk.check()


def test_a_model_is_loaded_later() -> None:
    """The worker registers again with it; the task then finds its way."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(needs={"model": "m"})
    assert desk.where(task) == "ready"
    desk.register("w1", models=("m",))
    assert desk.worker(task) == "w1"
    desk.check()


def test_a_loaded_model_is_preferred_and_not_needed() -> None:
    """With room there it goes there, else to somebody who has to load it."""
    desk = Desk()
    desk.register("cold", 4)
    desk.register("warm", 1, models=("m",))
    first, second = (desk.submit(hints={"model": "m"}) for _ in range(2))
    assert (desk.worker(first), desk.worker(second)) == ("warm", "cold")
    desk.check()


def test_data_pulls_by_region_host_and_numa_node() -> None:
    """The nearest with room: the same node, the same host, the same region."""
    desk = Desk()
    desk.register("far", 1, region="us", host="h9")
    desk.register("near", 1, region="eu", host="h1", numa_node=0)
    desk.register("here", 1, region="eu", host="h2", numa_node=0)
    desk.register("beside", 1, region="eu", host="h2", numa_node=1)
    data = {"region": "eu", "host": "h2", "numa_node": 1, "bytes": 1 << 20}
    tasks = [desk.submit(hints={"data": data}) for _ in range(4)]
    assert [desk.worker(task) for task in tasks] == ["beside", "here", "near", "far"]
    terms = desk.hears(Why(task=tasks[0]))["decision"]["rejected"]
    assert [rated["terms"]["place"] for rated in terms] == [1_000, 12_485, 116_371]
    desk.check()


def test_a_prompt_goes_where_its_beginning_was_computed() -> None:
    """The one that has most of it, until its process is another one; after a take-over nobody is known to have any."""
    desk = Desk()
    for name in ("w1", "w2", "w3"):
        desk.register(name, 4)
    assert placed(desk, hints={"prefix": HASHES[:1]}) == "w1"
    busy = desk.submit()
    assert desk.worker(busy) == "w1"
    assert placed(desk, hints={"prefix": ("other",)}) == "w2"
    assert placed(desk, hints={"prefix": HASHES}) == "w1", "though it is the busiest"
    assert placed(desk, hints={"prefix": (*HASHES, "h4")}) == "w1"
    board = desk.state.awake(desk.now)
    assert board.prefixes.held((*HASHES, "h5"), 256) == (("w1", 768),)
    desk.register("w1", 4, running=(desk.token(busy),))
    assert board.prefixes.held(HASHES, 256) == (("w1", 768),), "the same process"
    desk.register("w1", 4, session="another")
    assert board.prefixes.held(HASHES, 256) == ()
    assert placed(desk, hints={"prefix": ("other",)}) == "w2"
    desk.take_over()
    assert desk.state.awake(desk.now).prefixes.held(("other",), 256) == ()
    desk.check()


def test_the_policy_of_locality_sends_long_prompts_to_their_caches() -> None:
    """And short ones to the least loaded."""
    desk = Desk(policy="locality")
    for name in ("w1", "w2"):
        desk.register(name, 8)
    placed(desk, hints={"prefix": HASHES, "prompt_tokens": 9_000})
    busy = desk.submit()
    assert desk.worker(busy) == "w1"
    assert placed(desk, hints={"prefix": HASHES, "prompt_tokens": 100}) == "w2"
    assert placed(desk, hints={"prefix": HASHES, "prompt_tokens": 9_000}) in {"w1", "w2"}
    desk.check()


def test_a_batch_never_has_more_tokens_than_its_budget() -> None:
    """Whoever fits goes in; a worker that tells no budget has no bound, and nobody idles while somebody fits."""
    desk = Desk(policy="token_budget")
    desk.register("w1", 8, batch_tokens=4_096)
    desk.register("w2", 8, batch_tokens=8_192)
    tasks = [desk.submit(needs={"batch_tokens": 3_500}) for _ in range(4)]
    assert [desk.state.tasks[task].worker for task in tasks] == ["w2", "w2", "w1", ""]
    small = desk.submit(needs={"batch_tokens": 500})
    assert desk.worker(small) == "w2", "it has most left"
    desk.check()
    desk.run(tasks[2])
    assert desk.worker(tasks[3]) == "w1"
    free = desk.submit(needs={"batch_tokens": 1_000_000})
    assert desk.where(free) == "ready"
    desk.register("w3", 8)
    assert desk.worker(free) == "w3"
    desk.check()


def test_long_calls_keep_apart_by_their_own_time() -> None:
    """A task may tell that it runs long, though its class does not."""
    desk = Desk()
    for name in ("w1", "w2"):
        desk.register(name, 8)
    desk.run(desk.submit())  # the class takes no time at all
    long = desk.submit(hints={"expected_ms": 60_000})
    short = [desk.submit() for _ in range(2)]
    again = desk.submit(hints={"expected_ms": 60_000})
    assert {desk.worker(task) for task in short} != {desk.worker(long)}
    assert desk.worker(again) == desk.worker(long)
    desk.check()


def beat(desk: Desk, worker: str, **fields: Any) -> None:
    desk.hears(wire.Heartbeat(session=f"s{worker}", **fields), worker)


def test_regions_are_weighed_by_the_latency_that_workers_measure() -> None:
    """The nearer one is preferred, until it is the farther one."""
    desk = Desk()
    for name, region in (("w1", "us"), ("w2", "eu")):
        desk.register(name, 8, region=region)
    beat(desk, "w1", latency_us=400_000)
    beat(desk, "w2", latency_us=20_000)
    assert placed(desk) == "w2"
    for _ in range(60):
        beat(desk, "w2", latency_us=900_000)
    assert placed(desk) == "w1"
    desk.check()


def test_regions_are_weighed_by_how_well_they_do() -> None:
    """Where attempts fail others are preferred; it is forgotten while workers there live on."""
    desk = Desk()
    for name, region in (("w1", "us"), ("w2", "eu")):
        desk.register(name, 1, region=region)
    for _ in range(20):
        task = desk.submit(retries=0, needs={"region": "us"})
        desk.start(task)
        desk.fail(task, "the provider is down")
    near = {"data": {"region": "us"}}
    assert placed(desk, hints=near) == "w2"
    for _ in range(3_000):
        beat(desk, "w1", latency_us=0)
    assert placed(desk, hints=near) == "w1"
    desk.check()


def test_a_queue_of_the_workers_own_counts() -> None:
    """As a wait."""
    desk = Desk()
    for name in ("w1", "w2"):
        desk.register(name, 8)
    beat(desk, "w1", wait_ms=5_000)
    assert placed(desk) == "w2"
    beat(desk, "w1")
    assert placed(desk) == "w1"
    desk.check()


def test_hints_are_content_and_survive() -> None:
    """The same name with other hints is another task; a take-over keeps them."""
    desk = Desk()
    desk.submit(key="k", hints={"model": "m"})
    again = wire.Submit(id="x-1", task_class="work", key="k", hints=wire.Hints(model="n"))
    assert desk.code(again) == "id_reused"
    desk.take_over()
    desk.register("cold", 4)
    desk.register("warm", 4, models=("m",))
    assert desk.worker("ann.k") in {"cold", "warm"}
    assert desk.state.tasks["ann.k"].hints is not None
    desk.check()


def test_health_and_latency_make_the_reach_of_a_region() -> None:
    """A share h of calls that succeed means 1/h tries, with a pause between them."""
    assert Region(50_000).reach_us == 50_000
    assert Region(50_000, 500).reach_us == 100_000 + 1_000_000
    assert Region(0, 0).reach_us == Region(0, 10).reach_us


def test_small_changes_of_a_region_are_not_told() -> None:
    """They would be written into the score of all its workers."""
    regions = Regions()
    assert regions.measured("eu", 10_000) == Region(10_000)
    assert regions.measured("eu", 11_000) is None
    assert regions.measured("eu", 100_000) == Region(21_359)
    assert regions.ended("eu", True) is None
    assert regions.ended("eu", False) == Region(21_359, 968)


def test_blocks_and_their_holders_are_bounded() -> None:
    """The oldest go."""
    prefixes = Prefixes()
    for number in range(2 * MAX_HOLDERS):
        prefixes.seat(f"w{number}", "s")
        prefixes.take(f"w{number}", ("common",))
    assert len(prefixes.held(("common",), 16)) == MAX_HOLDERS
    for number in range(MAX_BLOCKS):
        prefixes.take("w0", (f"b{number}",))
    assert len(prefixes.blocks) == MAX_BLOCKS
    assert prefixes.held(("common",), 16) == ()


def test_local_and_remote_workers_are_weighed_by_latency_price_and_load() -> None:
    """The remote one is faster and dear, the local one slow and free: long calls are worth the money until it is far
    away, or full; an even load decides between equals."""
    desk = Desk()
    desk.register("local", 4, kind="gpu", region="here")
    desk.register("remote", 4, kind="remote", region="there", price=100)
    for name, took in (("local", 3_000), ("remote", 1_000)):
        task = desk.submit(needs={"kind": "gpu" if name == "local" else "remote"})
        desk.start(task)
        desk.advance(took)
        desk.finish(task)
    assert placed(desk) == "remote"
    for _ in range(60):
        beat(desk, "remote", latency_us=4_000_000)
    desk.register("remote", 4, kind="remote", region="there", price=100)
    first = desk.submit()
    assert desk.worker(first) == "local", "what it saves is lost on the way"
    for _ in range(80):
        beat(desk, "remote", latency_us=10_000)
    task = desk.submit()
    assert desk.worker(task) == "remote"
    desk.register("remote", 4, kind="remote", region="there", price=9_000, running=(desk.token(task),))
    assert desk.worker(desk.submit()) == "local", "now it costs more than the time is worth"
    desk.check()
