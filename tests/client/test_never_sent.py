"""Requests that never leave: they hold up nothing."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.errors import CallerError
from tests.client.fakes import fleet_and_limiter, network
from tests.client.virtual import run


@pytest.mark.parametrize("name", [2**70, object()])
def test_a_request_that_cannot_be_written_does_not_hold_up_the_watermark(name: Any) -> None:
    """Otherwise the limiter could forget nothing of this session any more, nor the session itself."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, _, _clock):
            with pytest.raises((OverflowError, TypeError)):
                await limiter.acquire("b", run=name)
            await (await limiter.acquire("b")).settle()
            session = limiter.caller._session
            assert session.acked == session._next - 1

    run(main())


def test_a_request_that_is_too_large_does_not_hold_up_the_watermark() -> None:
    """It fails at once, and its number is done with."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            bus: Any = network(there)
            publish = bus.publish

            def small(subject: str, payload: bytes, *rest: Any) -> None:
                if len(payload) > 1000:
                    raise CallerError("too_large", "the server takes at most 1000 bytes")
                publish(subject, payload, *rest)

            bus.publish = small
            with pytest.raises(CallerError, match="too_large"):
                await limiter.acquire("b" * 1000)
            await (await limiter.acquire("b")).settle()
            assert limiter.caller._session.acked == 3

    run(main())
