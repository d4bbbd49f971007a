"""Threads of workers: made for what waits, shared by lanes that steal from each other, bound to CPUs on demand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from contextvars import ContextVar

import pytest

from bursar.client.worker_threads import ThreadPool, shared_pool
from bursar.errors import CallerError


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads do."""
    tick = threading.Event()
    for _ in range(2_000):
        if true():
            return
        tick.wait(0.005)
    pytest.fail("it never happened")


class Gate:
    """Holds all jobs that pass through it until it is opened."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.go = threading.Event()

    def hold(self, name: str) -> str:
        self.inside.append(name)
        assert self.go.wait(10)
        return name


def test_threads_follow_the_depth_of_the_queue_up_to_the_bound() -> None:
    """One for each job that no idle thread could take; idle ones end."""
    pool, gate = ThreadPool(3, linger=0.02), Gate()
    lane = pool.lane()
    assert pool.threads == 0
    jobs = [lane.submit(gate.hold, str(n)) for n in range(2)]
    until(lambda: len(gate.inside) == 2)
    assert pool.threads == 2
    jobs += [lane.submit(gate.hold, str(n)) for n in range(2, 6)]
    until(lambda: len(gate.inside) == 3)
    assert (pool.threads, pool.depth) == (3, 3)
    gate.go.set()
    assert [job.result(10) for job in jobs] == list("012345")
    until(lambda: pool.threads == 0)
    assert lane.submit(gate.hold, "again").result(10) == "again"


def test_an_idle_thread_is_used_before_another_is_made() -> None:
    """One job after the other needs one thread."""
    pool = ThreadPool(8)
    lane = pool.lane()
    for n in range(20):
        assert lane.submit(int, n).result(10) == n
        until(lambda: pool._idle == 1)
    assert pool.threads == 1


def test_who_has_nothing_to_do_steals_from_the_longest_line_its_oldest_job() -> None:
    """Its own lane first."""
    pool, gate = ThreadPool(1), Gate()
    order: list[str] = []
    mine, short, long = pool.lane(), pool.lane(), pool.lane()
    first = mine.submit(gate.hold, "first")
    until(lambda: len(gate.inside) == 1)
    jobs = [short.submit(order.append, "short")]
    jobs += [long.submit(order.append, f"long {n}") for n in range(3)]
    jobs += [mine.submit(order.append, "mine")]
    gate.go.set()
    assert first.result(10) == "first"
    wait(jobs, 10)
    assert order == ["mine", "long 0", "long 1", "short", "long 2"]
    assert pool.stolen == 4


def test_what_has_not_begun_can_be_cancelled() -> None:
    """One job, or all of a worker that ends."""
    pool, gate = ThreadPool(1), Gate()
    lane, other = pool.lane(), pool.lane()
    running = lane.submit(gate.hold, "running")
    until(lambda: len(gate.inside) == 1)
    early, late, kept = lane.submit(int), lane.submit(int), other.submit(int)
    assert early.cancel()
    lane.close()
    gate.go.set()
    assert (running.result(10), kept.result(10)) == ("running", 0)
    with pytest.raises(CancelledError):
        late.result(10)


def test_an_error_reaches_who_asked_and_the_thread_goes_on() -> None:
    """Also one that would end a thread."""
    pool = ThreadPool(1)
    lane = pool.lane()

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        lane.submit(leave).result(10)
    assert lane.submit(int, 7).result(10) == 7
    assert pool.threads == 1


def test_a_job_sees_the_context_of_who_submitted_it() -> None:
    """As with `asyncio.to_thread`."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    lane = ThreadPool(1).lane()
    variable.set("mine")
    assert lane.submit(variable.get).result(10) == "mine"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without affinity says so: see below")
def test_threads_are_bound_to_the_cpus_that_are_named() -> None:
    """One each, in turn; a CPU that this process may not use is refused."""
    usable = sorted(os.sched_getaffinity(0))
    pool, gate = ThreadPool(2, affinity=usable), Gate()
    lane = pool.lane()

    def where() -> set[int]:
        gate.hold("here")
        return os.sched_getaffinity(0)

    jobs = [lane.submit(where) for _ in range(2)]
    until(lambda: len(gate.inside) == 2)
    gate.go.set()
    found = [job.result(10) for job in jobs]
    assert all(len(cpus) == 1 for cpus in found)
    assert len({min(cpus) for cpus in found}) == min(2, len(usable))
    assert os.sched_getaffinity(0) == set(usable)
    with pytest.raises(CallerError, match="may not use"):
        ThreadPool(affinity=[100_000])


def test_a_pool_has_threads() -> None:
    """At least one; the shared one is one for all."""
    with pytest.raises(CallerError, match="at least one"):
        ThreadPool(0)
    assert shared_pool() is shared_pool()
    assert shared_pool().most >= 32
