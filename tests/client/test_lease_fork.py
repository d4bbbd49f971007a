"""A copy of a process spends nothing that its parent holds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from bursar.client.lease_away import Away
from bursar.client.lease_keeper import Keeper
from bursar.client.local_island import OpenLease
from bursar.client.local_permit import LocalPermit

HAND = (9, 900, 900, 9, 900, 900, 900)
CALL = (1, 1, 1, 1, 1, 2, 1)


@contextmanager
def held_by_another_thread(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """The thread that forks could take its own lock once more, in the copy too."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_so_in_a_copy(check: Callable[[], bool]) -> bool:
    """Whether a forked process finds that it holds; one that waits for ever does not."""
    child = os.fork()
    if child == 0:  # nothing of this test may go on here
        signal.alarm(10)
        try:
            os._exit(7 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("threads", [False, True])
def test_a_forked_process_takes_nothing_from_its_parents_lease(threads: bool) -> None:
    """Both would spend the same advance; nor does it wait for a lock that one of the parent's threads held."""
    nobody: Any = None
    keeper = Keeper(nobody, {}, lambda: 5, threads=threads)  # type: ignore[arg-type]
    lease = keeper.holder(("b", "", ())).lease
    lease.book.rules(0b1111111, 0b1000)
    lease.book.grant(lease, HAND, 10**9, 10**9)
    with held_by_another_thread(lease.book.lock):
        assert is_so_in_a_copy(lambda: keeper.take(("b", "", ()), CALL) is None and lease.take(1) is None)
    assert lease.hand == HAND
    assert keeper.take(("b", "", ()), CALL) is not None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_ends_calls_that_went_on_without_the_limiter() -> None:
    """Nor does that wait for a lock of one of the parent's threads; and it begins no other."""
    nobody: Any = None
    away = Away(nobody, nobody, nobody, lambda: 5, {}, threads=True)  # type: ignore[arg-type]
    lease = away._lease("b", OpenLease)
    lease.good_for = 10**9
    permit = away.take("b", CALL)
    assert isinstance(permit, LocalPermit)

    def ends() -> bool:
        permit.end()
        return permit.state == "ended" and away.take("b", CALL) is None

    with held_by_another_thread(lease.book.lock):
        assert is_so_in_a_copy(ends)
    assert permit.state == "held"
    assert away.take("b", CALL) is not None
