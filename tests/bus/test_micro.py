"""Endpoints after ADR-32: what callers, operators and attackers get."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bursar.bus.call import AlreadyAnswered, Call
from bursar.bus.codec import encode
from bursar.bus.micro import Service
from bursar.contracts.limiter import Status
from bursar.errors import BursarError, CallerError, ServiceError
from tests.bus.endpoints import Net, echo, error_in, settle

SCHEMAS = Path(__file__).parent / "schemas"
SUBJECT = "bursar.req.limiter.{}.a1"


@pytest.fixture
async def net() -> Net:
    return Net()


async def test_a_call_is_answered_with_what_the_handler_says(net: Net) -> None:
    """Subject, principal, payload and encoding reach the handler; the answer reaches the caller."""
    heard: list[tuple[str, str, str]] = []

    def handler(call: Call) -> None:
        heard.append((call.subject, call.principal, call.encoding))
        call.respond_value({"v": 1, "ok": True})

    await net.add("status", handler)
    await net.service.start()
    told = await net.agent.request(SUBJECT.format("status"), b"{}", 1)
    packed = await net.agent.request(SUBJECT.format("status"), encode({"v": 1}), 1)
    assert told.data == b'{"v":1,"ok":true}'
    assert packed.data == encode({"v": 1, "ok": True})
    assert heard == [(SUBJECT.format("status"), "a1", "json"), (SUBJECT.format("status"), "a1", "msgpack")]


async def test_calls_do_not_wait_for_each_other(net: Net) -> None:
    """A call may be answered later and in another order than it came."""
    held: list[Call] = []
    await net.add("reserve", held.append)
    await net.service.start()
    requests = [asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{%d}" % n, 1)) for n in range(3)]
    await settle(net.agent)
    assert net.service.open == 3
    for call in reversed(held):
        call.respond(call.data)
    assert [msg.data for msg in await asyncio.gather(*requests)] == [b"{0}", b"{1}", b"{2}"]
    assert net.service.open == 0


async def test_without_reply_subject_nothing_is_done(net: Net) -> None:
    """Anybody can send such messages in masses: they are counted and cost nothing else."""
    endpoint = await net.add("reserve", echo)
    await net.service.start()
    for _ in range(5):
        net.agent.publish(SUBJECT.format("reserve"), b"\xc1")
    await settle(net.agent)
    assert endpoint.stats.no_reply == 5
    assert endpoint.stats.num_requests == 0


@pytest.mark.parametrize(
    "reply",
    [
        "_R.a2.x.1",
        "_R.a1",
        "_R.a1.",
        "_R.a1.x.",
        "_R.a11.x",
        "bursar.log.limiter.0",
        "bursar.evt.limiter.freeze.all",
        "$JS.API.STREAM.DELETE.X",
        "_INBOX.x",
        "$SRV.PING",
        "x_R.a1.x",
    ],
)
async def test_replies_go_to_the_callers_own_inbox_only(net: Net, reply: str) -> None:
    """A caller who names another reply subject gets no answer there, nor does anybody else."""
    await net.watch(">")
    endpoint = await net.add("reserve", echo)
    await net.service.start()
    net.agent.publish(SUBJECT.format("reserve"), b"{}", reply)
    await settle(net.agent)
    assert [subject for subject, _ in net.seen if subject == reply] == []
    assert (endpoint.stats.bad_reply, endpoint.stats.num_requests) == (1, 0)
    assert net.service.violations.of("a1") == {"bad_reply": 1}


@pytest.mark.parametrize("principal", ["*", "A1", "a_1", "-a", "a" * 65, ""])
async def test_a_malformed_principal_is_never_answered(net: Net, principal: str) -> None:
    """The last token of the subject must be a principal; its inbox would otherwise be anything."""
    await net.watch(">")
    endpoint = await net.add("reserve", echo)
    await net.service.start()
    net.agent.publish(f"bursar.req.limiter.reserve.{principal}", b"{}", f"_R.{principal}.x")
    await settle(net.agent)
    assert endpoint.stats.num_requests == 0
    assert [subject for subject, _ in net.seen if subject.startswith("_R.")] == []


async def test_a_raising_handler_says_internal_and_nothing_else(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    """Neither caller nor log see what was raised; it is counted, and logged once a second by type."""

    def handler(call: Call) -> None:
        raise ValueError(f"secret {call.data!r}")

    endpoint = await net.add("reserve", handler)
    await net.service.start()
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            msg = await net.agent.request(SUBJECT.format("reserve"), b'{"key":"secret"}', 1)
            error = error_in(msg)
            assert (error.code, error.status, error.blame) == ("internal", 500, "service")
            assert b"secret" not in msg.data
            assert b"ValueError" not in msg.data
    assert endpoint.stats.num_errors == 3
    assert endpoint.stats.last_error == "500:internal"
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text
    assert caplog.records[0].__dict__["error"] == "ValueError"


async def test_a_raised_typed_error_is_the_answer(net: Net) -> None:
    """A handler may let a typed error through, such as what decoding raises."""
    await net.add("status", lambda call: call.respond_value(call.decode(Status)))
    await net.service.start()
    msg = await net.agent.request(SUBJECT.format("status"), b'{"budget":7}', 1)
    assert msg.headers is not None
    assert msg.headers["Nats-Service-Error-Code"] == "400"
    assert msg.headers["Nats-Service-Error"].startswith("bad_request: ")
    assert json.loads(msg.data)["error"]["code"] == "bad_request"
    assert net.service.violations.of("a1") == {"bad_request": 1}


async def test_late_errors_count(net: Net) -> None:
    """An error that comes long after the handler has returned is still an error of the endpoint."""
    held: list[Call] = []
    endpoint = await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 1))
    await settle(net.agent)
    assert endpoint.stats.num_errors == 0
    held[0].fail(CallerError("id_reused", "that id had other content", id="s-1"))
    assert error_in(await request).facts == {"id": "s-1"}
    assert (endpoint.stats.num_errors, endpoint.stats.last_error) == (1, "409:id_reused")


async def test_a_call_is_answered_exactly_once(net: Net) -> None:
    """A second answer is a program error: it is raised and not sent; an empty one is refused."""
    held: list[Call] = []
    await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 1))
    await settle(net.agent)
    with pytest.raises(ServiceError):
        held[0].respond(b"")
    held[0].respond(b"1")
    with pytest.raises(AlreadyAnswered):
        held[0].respond(b"2")
    with pytest.raises(AlreadyAnswered):
        held[0].fail(ServiceError("internal", "no"))
    assert (await request).data == b"1"
    assert not held[0].is_open


async def test_raising_after_the_answer_sends_nothing_more(net: Net) -> None:
    """The caller has its answer; the failure is counted."""

    def handler(call: Call) -> None:
        call.respond(b"1")
        raise KeyError

    endpoint = await net.add("reserve", handler)
    await net.service.start()
    await net.watch("_R.a1.>")
    assert (await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)).data == b"1"
    await settle(net.agent)
    assert [data for _, data in net.seen] == [b"1"]
    assert endpoint.stats.num_errors == 1


async def test_a_dropped_call_is_silent_and_no_longer_open(net: Net) -> None:
    """A deposed owner answers nothing, and may then end."""
    held: list[Call] = []
    endpoint = await net.add("reserve", held.append)
    await net.service.start()
    request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 0.05))
    await settle(net.agent)
    held[0].drop()
    held[0].drop()
    assert (endpoint.stats.open, endpoint.stats.dropped) == (0, 1)
    with pytest.raises(AlreadyAnswered):
        held[0].respond(b"late")
    with pytest.raises(BursarError, match="request_timeout"):
        await request


async def test_latency_is_measured_to_the_answer(net: Net) -> None:
    """From arrival to reply, whatever happened between; percentiles within an eighth."""
    now = [0]
    net.service.clock_ns = lambda: now[0]
    held: list[Call] = []
    endpoint = await net.add("reserve", held.append)
    await net.service.start()
    for ms in range(1, 101):
        request = asyncio.ensure_future(net.agent.request(SUBJECT.format("reserve"), b"{}", 1))
        await settle(net.agent)
        now[0] += ms * 1_000_000
        held.pop().respond(b"1")
        await request
    told = endpoint.statistics()
    assert told["processing_time"] == 5_050_000_000
    assert told["average_processing_time"] == 50_500_000
    for key, ms in (("p50_ns", 50), ("p95_ns", 95), ("p99_ns", 99)):
        assert ms * 1_000_000 <= told["data"][key] <= ms * 1_130_000


@pytest.mark.parametrize("tail", ["", ".limiter", ".limiter.i1"])
@pytest.mark.parametrize("verb", ["ping", "info", "stats"])
async def test_control_answers_fit_the_official_schemas(net: Net, verb: str, tail: str) -> None:
    """What `nats micro ls|info|stats` reads, before and after traffic, also without description and endpoints."""
    schema = json.loads((SCHEMAS / f"{verb}_response.json").read_text())
    bare = Service(net.network.connect("svc-x"), "bare", "0.1.0", instance="i1")
    await net.add("reserve", echo, metadata={"format": "msgpack"})
    await net.service.start()
    await bare.start()
    await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)
    answers = [await net.ops.request(f"$SRV.{verb.upper()}{tail}", b"", 1)]
    answers.append(await net.ops.request(f"$SRV.{verb.upper()}.bare", b"", 1))
    for msg in answers:
        told = json.loads(msg.data)
        jsonschema.Draft7Validator(schema).validate(told)
        assert all(isinstance(value, str) for value in told["metadata"].values())
    assert json.loads(answers[1].data)["name"] == "bare"


async def test_info_lists_endpoints_that_do_not_listen(net: Net) -> None:
    """A standby is known to operators and hears no requests; when it becomes owner it does."""
    endpoint = await net.add("reserve", echo, listen=False)
    await net.service.start()
    told = json.loads((await net.ops.request("$SRV.INFO.limiter", b"", 1)).data)
    assert [item["name"] for item in told["endpoints"]] == ["reserve"]
    assert told["endpoints"][0]["queue_group"] == "i1"
    with pytest.raises(BursarError, match="no_responders"):
        await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)
    await endpoint.listen()
    await endpoint.listen()
    assert (await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)).data == b"{}"
    await endpoint.drain()
    with pytest.raises(BursarError, match="no_responders"):
        await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)


async def test_stepping_down_while_a_subscription_is_under_way(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last wish counts: a deposed owner must not end up listening because the network was slow."""
    subscribe = net.bus.subscribe

    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(0.02)
        return await subscribe(*args)

    endpoint = await net.add("reserve", echo, listen=False)
    await net.service.start()
    monkeypatch.setattr(net.bus, "subscribe", slowly)
    await asyncio.gather(endpoint.listen(), endpoint.drain(), endpoint.listen(), endpoint.stop())
    assert not endpoint.is_listening
    with pytest.raises(BursarError, match="no_responders"):
        await net.agent.request(SUBJECT.format("reserve"), b"{}", 1)


@pytest.mark.parametrize("reply", ["", "bursar.log.limiter.0", "$JS.API.STREAM.DELETE.X", "_INBOX.a", "_R.", "_R.a1."])
async def test_control_answers_only_go_to_inboxes(net: Net, reply: str) -> None:
    """`$SRV` requests cannot be used to write elsewhere either."""
    await net.watch(">")
    await net.service.start()
    net.ops.publish("$SRV.PING", b"", reply)
    await settle(net.ops)
    assert len(net.seen) == 1
    assert net.service.control_dropped == 1
