"""When a busy socket is read."""

from __future__ import annotations

from collections.abc import Callable

from bursar.bus.gather import Gathering

SECONDS = 0.005


class Clock:
    """Time that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        self.due.append((self.now + delay, callback))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        ready = [callback for at, callback in self.due if at <= self.now]
        self.due = [(at, callback) for at, callback in self.due if at > self.now]
        for callback in ready:
            callback()


class Socket:
    """Raises, as some transports do, when it is told anything after its end."""

    def __init__(self) -> None:
        self.is_read = True
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.closing
        self.is_read = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.is_read = True


def made() -> tuple[Clock, Socket, Gathering]:
    clock, socket = Clock(), Socket()
    return clock, socket, Gathering(socket, clock, SECONDS)


def test_what_comes_now_and_then_is_read_at_once() -> None:
    """Reads that are further apart than the time change nothing."""
    clock, socket, gathering = made()
    for _ in range(5):
        gathering.was_read()
        assert socket.is_read
        clock.wait(SECONDS * 1.1)


def test_busy_socket_rests_between_reads() -> None:
    """While messages keep coming there is one read in so long, and reading always goes on."""
    clock, socket, gathering = made()
    reads = 0
    for _ in range(1_000):  # a message each tenth of the time
        if socket.is_read:
            reads += 1
            gathering.was_read()
        clock.wait(SECONDS / 10)
    assert 90 <= reads <= 110
    clock.wait(SECONDS)
    assert socket.is_read


def test_read_that_was_on_its_way_asks_for_no_second_rest() -> None:
    """An encrypted socket may deliver what it had already taken."""
    clock, socket, gathering = made()
    for _ in range(3):
        gathering.was_read()
    assert len(clock.due) == 1
    clock.wait(SECONDS)
    assert socket.is_read


def test_socket_that_ends_is_left_alone() -> None:
    """Neither while it rests nor afterwards is it told anything."""
    clock, socket, gathering = made()
    gathering.was_read()
    gathering.was_read()
    socket.closing = True
    clock.wait(SECONDS)
    gathering.was_read()
    gathering.was_read()
    assert not clock.due
