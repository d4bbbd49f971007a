"""Threads for the functions of workers: as many as there is work for, up to a bound; who is idle steals.

Each worker of a process has a lane of its own, first come first served. A thread belongs to the lane that had it made;
when that is empty it takes what has waited longest in the longest of the others (*work stealing*, as dask and Cilk
have it, but from the old end: what waits here has a lease). A thread is made when more waits than threads are idle, so
their number follows the depth of the queue; one that has been idle for ``linger`` seconds ends.

All workers of a process share one pool (`shared_pool`) unless they are given another.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from bursar.errors import CallerError

T = TypeVar("T")

LINGER: Final = 5.0
"""Seconds after which an idle thread ends."""

PER_CPU: Final = 4
LEAST: Final = 32
"""A pool has so many threads for each CPU, or `LEAST` if that is more, unless it is told otherwise: functions that wait
for something need more threads than there are CPUs."""

Job = tuple["Future[Any]", Callable[[], Any]]


class Lane:
    """The queue of one worker. Made by `ThreadPool.lane`."""

    def __init__(self, pool: ThreadPool) -> None:
        self.jobs: deque[Job] = deque()
        self._pool = pool

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Have it called in a thread, with the context of the caller; cancelling works until it has begun."""
        future: Future[T] = Future()
        call = functools.partial(contextvars.copy_context().run, function, *args)
        self._pool.put(self, (future, call))
        return future

    def close(self) -> None:
        """The worker has ended: what is still in line is cancelled."""
        self._pool.drop(self)


class ThreadPool:
    """See the module's text. ``most``: threads, at most. ``affinity``: CPUs that the threads are bound to, one each in
    turn (Linux). ``stolen`` counts jobs that a thread took from another lane than its own."""

    def __init__(self, most: int | None = None, *, affinity: Sequence[int] = (), linger: float = LINGER) -> None:
        self.most = max(LEAST, PER_CPU * (os.cpu_count() or 1)) if most is None else most
        if self.most < 1:
            raise CallerError("bad_request", "a pool has at least one thread", most=self.most)
        self.stolen = 0
        self._cpus = _usable(affinity)
        self._linger = linger
        self._lanes: list[Lane] = []
        self._changed = threading.Condition()
        self._threads = 0
        self._made = 0
        self._idle = 0

    @property
    def threads(self) -> int:
        """Threads that are there now."""
        return self._threads

    @property
    def depth(self) -> int:
        """Jobs that no thread has begun."""
        with self._changed:
            return self._waiting()

    def lane(self) -> Lane:
        """A queue for one more worker."""
        lane = Lane(self)
        with self._changed:
            self._lanes.append(lane)
        return lane

    def drop(self, lane: Lane) -> None:
        """See `Lane.close`."""
        with self._changed:
            if lane in self._lanes:
                self._lanes.remove(lane)
            jobs = list(lane.jobs)
            lane.jobs.clear()
        for future, _ in jobs:
            future.cancel()

    def put(self, lane: Lane, job: Job) -> None:
        """In line, with one more thread when that is needed and allowed."""
        with self._changed:
            lane.jobs.append(job)
            grows = self._waiting() > self._idle and self._threads < self.most
            if grows:
                self._threads += 1
                self._made += 1
            self._changed.notify()
        if grows:
            threading.Thread(target=self._work, args=(lane, self._made), name="bursar-task", daemon=True).start()

    def _waiting(self) -> int:
        return sum(len(lane.jobs) for lane in self._lanes)

    def _work(self, home: Lane, number: int) -> None:
        if self._cpus:
            os.sched_setaffinity(0, {self._cpus[number % len(self._cpus)]})
        while (job := self._next(home)) is not None:
            _do(*job)
            del job  # an idle thread keeps no result alive

    def _next(self, home: Lane) -> Job | None:
        """The next job for a thread of this lane; None when there has been none for long."""
        with self._changed:
            while True:
                job = self._take(home)
                if job is not None:
                    return job
                self._idle += 1
                woken = self._changed.wait(self._linger)
                self._idle -= 1
                if not woken and not self._waiting():
                    self._threads -= 1
                    return None

    def _take(self, home: Lane) -> Job | None:
        if home.jobs:
            return home.jobs.popleft()
        longest = max(self._lanes, key=lambda lane: len(lane.jobs), default=home)
        if not longest.jobs:
            return None
        self.stolen += 1
        return longest.jobs.popleft()


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
        future.set_exception(error)
    else:
        future.set_result(result)


def _usable(affinity: Sequence[int]) -> list[int]:
    if not affinity:
        return []
    if not hasattr(os, "sched_setaffinity"):
        raise CallerError("bad_request", "threads cannot be bound to CPUs on this system")
    missing = set(affinity) - os.sched_getaffinity(0)
    if missing:
        raise CallerError("bad_request", "this process may not use all of these CPUs", missing=min(missing))
    return list(dict.fromkeys(affinity))


@functools.cache
def shared_pool() -> ThreadPool:
    """The pool of all workers of this process that were given none."""
    return ThreadPool()
