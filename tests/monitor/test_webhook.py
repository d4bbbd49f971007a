"""Notifications to an HTTP address: each once it is durable, in order, again until it is taken."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from bursar_monitor.incidents import Delivered
from bursar_monitor.state import Posted, State
from bursar_monitor.webhook import MAX_AGE_MS, Webhook, post
from tests.monitor.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


def told(number: int, at_ms: int = 0) -> dict[str, Any]:
    return {"incident": "1.1.1", "number": number, "at_ms": at_ms, "text": "Größe"}


def outbox(*posted: Posted) -> State:
    state = State()
    state.outbox.extend(posted)
    state.notified = len(posted)
    return state


async def eventually(check: Any) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.01)


async def run(hook: Webhook, until: Any) -> None:
    task = asyncio.create_task(hook.run())
    try:
        await eventually(until)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_a_post_is_signed_and_taken_only_with_a_status_of_success(receiver: Receiver) -> None:
    """JSON, who it is about in a header, HMAC-SHA256; redirects are not followed."""
    assert post(receiver.url, told(3), "secret")
    payload, headers = receiver.raw[0]
    assert json.loads(payload) == told(3)
    assert headers["Bursar-Incident"] == "1.1.1/3"
    assert headers["Bursar-Signature"] == hmac.new(b"secret", payload, hashlib.sha256).hexdigest()
    receiver.statuses = [500, 302]
    assert not post(receiver.url, told(4))
    assert not post(receiver.url, told(4))
    assert len(receiver.raw) == 3
    assert "Bursar-Signature" not in receiver.raw[2][1]
    assert not post("http://127.0.0.1:1/", told(5))


async def test_each_notification_is_sent_in_order_until_it_is_taken(receiver: Receiver) -> None:
    """A failure is tried again; what was taken is noted and not sent again; what is too old is left out."""
    late = [Posted(number, (1, 1, 5 + number), told(number, MAX_AGE_MS)) for number in (2, 3)]
    state = outbox(Posted(1, (1, 1, 5), told(1)), *late)
    state.at = MAX_AGE_MS
    receiver.statuses = [503]
    hook = Webhook(receiver.url, "", lambda: (state, (1, 1, 20)), note(state))
    await run(hook, lambda: state.delivered == 3)
    assert [body["number"] for body in receiver.bodies] == [2, 2, 3]
    assert hook.sent == 2


async def test_nothing_is_sent_that_is_not_durable_or_by_an_instance_that_does_not_decide(receiver: Receiver) -> None:
    """The fence of a decision has to be committed; a standby sends nothing."""
    state = outbox(Posted(1, (1, 2, 5), told(1)))
    looks = 0
    committed = (1, 2, 4)

    def look() -> tuple[State, tuple[int, ...]] | None:
        nonlocal looks, committed
        looks += 1
        if looks == 3:
            assert not receiver.bodies
            committed = (1, 2, 5)
        return None if looks == 1 else (state, committed)

    await run(Webhook(receiver.url, "", look, note(state)), lambda: state.delivered == 1)
    assert looks > 3 - 1
    assert len(receiver.bodies) == 1


def note(state: State) -> Any:
    def observe(body: Delivered) -> None:
        state.delivered = body.number

    return observe
