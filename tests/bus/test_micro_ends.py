"""Endpoints after ADR-32: how they end, and what bounds them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bursar.bus.call import Call
from bursar.bus.codec import decode_value, encode
from bursar.bus.micro import Service
from bursar.errors import BursarError, CallerError, ServiceError
from tests.bus.endpoints import Net, echo, error_in, settle

SCHEMAS = Path(__file__).parent / "schemas"
SUBJECT = "bursar.req.limiter.{}.a1"


@pytest.fixture
async def net() -> Net:
    return Net()


async def test_drain_answers_what_was_accepted(net: Net) -> None:
    """After SIGTERM: nothing new, everything accepted is answered, then it is over."""
    held: list[Call] = []
    await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 1))
    await settle(net.agent)
    draining = asyncio.ensure_future(net.service.drain(5))
    await settle(net.agent)
    assert not draining.done()
    with pytest.raises(BursarError, match="no_responders"):
        await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)
    held[0].respond(b"1")
    assert await draining == 0
    assert (await request).data == b"1"
    with pytest.raises(BursarError, match="no_responders"):
        await net.ops.request("$SRV.PING.limiter", b"", 1)


async def test_drain_gives_up_at_its_deadline(net: Net) -> None:
    """A call that nobody answers cannot keep a service alive; how many there were is said."""
    await net.add("reserve", lambda _call: None)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 0.2))
    await settle(net.agent)
    assert await net.service.drain(0.02) == 1
    with pytest.raises(BursarError, match="request_timeout"):
        await request


async def test_stop_ends_at_once(net: Net) -> None:
    """Without waiting; a call that is open may still be answered."""
    held: list[Call] = []
    await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 1))
    await settle(net.agent)
    await net.service.stop()
    held[0].respond(b"1")
    assert (await request).data == b"1"


async def test_an_answer_without_connection_is_counted_not_raised(net: Net) -> None:
    """The caller will time out and ask again with the same id."""
    held: list[Call] = []
    endpoint = await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 0.05))
    await settle(net.agent)
    net.bus.disconnect()
    held[0].respond(b"1")
    assert (endpoint.stats.undelivered, endpoint.stats.open) == (1, 0)
    with pytest.raises(BursarError, match="request_timeout"):
        await request


async def test_other_subjects_are_answered_to_any_well_formed_inbox(net: Net) -> None:
    """Subjects without a principal in them accept every inbox of a principal, and nothing else."""
    endpoint = await net.service.add_endpoint("probe", "bursar.node.host1.query", echo)
    await net.service.start()
    assert (await net.ops.request("bursar.node.host1.query", b"{}", 1)).data == b"{}"
    net.ops.publish("bursar.node.host1.query", b"{}", "bursar.log.limiter.0")
    await settle(net.ops)
    assert endpoint.stats.bad_reply == 1


async def test_violations_are_bounded(net: Net) -> None:
    """Counting per principal cannot be used to fill the memory."""
    for number in range(3000):
        net.service.violations.add(f"a{number}", "bad_shape")
    assert net.service.violations.total() == {"bad_shape": 3000}
    assert net.service.violations.of("*") == {"bad_shape": 3000 - 1024}
    assert list(net.service.violations.top(1)) == ["*"]


@pytest.mark.parametrize(("name", "version"), [("a.b", "1.0.0"), ("", "1.0.0"), ("a", "1.0"), ("a", "v1.0.0")])
async def test_names_that_the_cli_cannot_read_are_refused(net: Net, name: str, version: str) -> None:
    """Older `nats` clients give up on the whole list when one name or version is odd."""
    with pytest.raises(ServiceError):
        Service(net.bus, name, version)


async def test_endpoint_names_are_unique_and_plain(net: Net) -> None:
    """Statistics are by endpoint name."""
    await net.add("reserve", echo)
    for name in ("reserve", "a.b"):
        with pytest.raises(ServiceError):
            await net.add(name, echo)


async def test_error_bodies_are_in_the_callers_encoding(net: Net) -> None:
    """msgpack asked, msgpack told."""

    def handler(_call: Call) -> None:
        raise CallerError("unknown", "no such budget", budget="x")

    await net.add("status", handler)
    await net.service.start()
    msg = await net.agent.request(SUBJECT.format("status"), encode({"v": 1}), 1)
    body = {"v": 1, "error": {"code": "unknown", "text": "no such budget", "facts": {"budget": "x"}}}
    assert decode_value(msg.data)[0] == body


async def test_an_answer_that_the_server_would_not_take_becomes_an_error(net: Net) -> None:
    """The caller is told, and nothing is raised into whoever answers, who may be answering others too."""
    net.network.max_payload = 1000
    endpoint = await net.add("status", lambda call: call.respond(bytes(1001)))
    await net.service.start()
    error = error_in(await net.agent.request(SUBJECT.format("status"), b"{}", 1))
    assert error.code == "internal"
    assert endpoint.stats.undelivered == 1
    assert net.service.open == 0


async def test_a_call_that_waits_holds_nothing_of_the_message(net: Net) -> None:
    """64 KB of white space around a request must not stay for as long as it stands in line."""
    held: list[Call] = []

    def wait(call: Call) -> None:
        call.release()
        held.append(call)

    await net.add("reserve", wait)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{" + b" " * 60_000 + b"}", 1))
    await settle(net.agent)
    assert (held[0].data, held[0].headers) == (b"", None)
    held[0].respond_value({"ok": True})
    assert (await request).data == b'{"ok":true}'
