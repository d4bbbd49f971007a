"""Log lines on the network: nobody waits for them, there is an end to them, and none is lost without a word."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

from bursar.bus.base import NotConnected
from bursar.telemetry import stream
from bursar.telemetry.stream import KEPT, LONGEST, LineStream
from tests.bus.support import eventually


class Net:
    """A connection that can be cut."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[tuple[str, dict[str, object]]] = []

    def publish(self, subject: str, payload: bytes) -> None:
        if not self.is_up:
            raise NotConnected
        self.sent.append((subject, json.loads(payload)))


def logger(handler: logging.Handler) -> logging.Logger:
    made = logging.getLogger("tests.stream")
    made.handlers[:] = [handler]
    made.setLevel("INFO")
    made.propagate = False
    return made


async def test_lines_are_published_by_service_and_level() -> None:
    """From any thread, in their order."""
    net = Net()
    log = logger(LineStream("limiter", "l-1", net.publish, asyncio.get_running_loop()))
    log.info("first", extra={"id": "a-1"})
    other = threading.Thread(target=lambda: log.error("second"))
    other.start()
    other.join()
    await eventually(lambda: len(net.sent) == 2)
    assert [subject for subject, _ in net.sent] == ["bursar.line.limiter.info", "bursar.line.limiter.error"]
    first = net.sent[0][1]
    assert (first["event"], first["id"], first["service"], first["instance"]) == ("first", "a-1", "limiter", "l-1")


async def test_without_a_connection_lines_wait_and_the_oldest_go() -> None:
    """The first line that is sent afterwards says how many were lost."""
    net = Net()
    net.is_up = False
    handler = LineStream("limiter", "l-1", net.publish, asyncio.get_running_loop())
    log = logger(handler)
    for number in range(KEPT + 7):
        log.info("line", extra={"number": number})
    await asyncio.sleep(0)
    assert net.sent == []
    net.is_up = True
    await eventually(lambda: len(net.sent) >= stream.BURST)
    assert (net.sent[0][1]["number"], net.sent[0][1]["lost"]) == (7, 7)
    assert "lost" not in net.sent[1][1]


async def test_a_line_that_cannot_be_sent_fails_nobody() -> None:
    """One that is too long or cannot be written counts as lost."""
    net = Net()
    log = logger(LineStream("limiter", "l-1", net.publish, asyncio.get_running_loop()))
    log.info("long", extra={f"field{number}": "x" * 1_900 for number in range(LONGEST // 1_900 + 1)})
    log.info("%d", "no number")
    log.info("fine")
    await eventually(lambda: len(net.sent) == 1)
    assert (net.sent[0][1]["event"], net.sent[0][1]["lost"]) == ("fine", 2)
