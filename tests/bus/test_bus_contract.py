"""What every bus does, held by the in-memory twin and by a connection to a real server alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bursar.bus.base import Bus, Msg, NoResponders, NotConnected, PermissionDenied, RequestTimeout
from bursar.bus.connection import NatsBus, connect
from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.errors import CallerError
from tests.bus.support import RealServer, eventually


class Net:
    """Makes connections of the one kind or the other, and breaks them."""

    def __init__(self, server: RealServer | None) -> None:
        self.server = server
        self.network = MemoryNetwork()
        self.made: list[MemoryBus | NatsBus] = []

    async def connect(self, principal: str) -> MemoryBus | NatsBus:
        bus = self.network.connect(principal) if self.server is None else await connect(
            self.server.url, principal=principal)  # fmt: skip
        self.made.append(bus)
        return bus

    async def settle(self, *buses: Bus) -> None:
        """All that was published is delivered: once round for the sender, once for the hearers."""
        for bus in (*buses, *buses):
            await bus.flush()

    def stop(self) -> None:
        (self.server or self.network).stop()

    def start(self) -> None:
        (self.server or self.network).start()


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.integration)])
async def net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    net = Net(None if request.param == "memory" else request.getfixturevalue("real_server"))
    yield net
    for bus in net.made:
        await bus.close()


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.integration)])
async def own_net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    """One whose server may be stopped."""
    net = Net(None if request.param == "memory" else request.getfixturevalue("own_server"))
    yield net
    for bus in net.made:
        await bus.close()


def answering(bus: Bus, text: bytes = b"") -> object:
    return lambda msg: bus.publish(msg.reply, text or msg.data)


async def test_what_is_published_arrives_in_order(net: Net) -> None:
    """One publisher's messages reach a subscriber in the order of publication, across subjects."""
    a, b = await net.connect("a"), await net.connect("b")
    heard: list[tuple[str, bytes]] = []
    await b.subscribe("t.x", lambda msg: heard.append((msg.subject, msg.data)))
    await b.subscribe("t.y", lambda msg: heard.append((msg.subject, msg.data)))
    for number in range(100):
        a.publish("t.x" if number % 3 else "t.y", b"%d" % number)
    await net.settle(a, b)
    assert [data for _, data in heard] == [b"%d" % number for number in range(100)]
    assert heard[0] == ("t.y", b"0")


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("t.*", ["t.a", "t.b"], ["t", "t.a.b", "u.a"]),
        ("t.>", ["t.a", "t.a.b"], ["t", "u.a"]),
        ("t.*.c", ["t.a.c"], ["t.a", "t.a.b", "t.a.c.d"]),
        ("t.a", ["t.a"], ["t.b", "t.aa", "t"]),
    ],
)
async def test_wildcards(net: Net, pattern: str, hits: list[str], misses: list[str]) -> None:
    """``*`` is one token, ``>`` one or more at the end."""
    a, b = await net.connect("a"), await net.connect("b")
    heard: list[str] = []
    await b.subscribe(pattern, lambda msg: heard.append(msg.subject))
    for subject in hits + misses:
        a.publish(subject, b"1")
    await net.settle(a, b)
    assert heard == hits


async def test_headers_and_reply_travel(net: Net) -> None:
    """Headers are strings; without them a message has None; line breaks cannot add a header."""
    a, b = await net.connect("a"), await net.connect("b")
    heard: list[Msg] = []
    await b.subscribe("t.h", heard.append)
    a.publish("t.h", b"1", "some.reply", {"Key": "value", "Other": "é"})
    a.publish("t.h", b"", "", None)
    await net.settle(a, b)
    assert heard[0].headers == {"Key": "value", "Other": "é"}
    assert (heard[0].reply, heard[0].data) == ("some.reply", b"1")
    assert (heard[1].reply, heard[1].data, heard[1].headers) == ("", b"", None)


async def test_a_queue_group_gets_each_message_once(net: Net) -> None:
    """One member of each group and every plain subscriber; members share the work."""
    a, b, c = await net.connect("a"), await net.connect("b"), await net.connect("c")
    heard: dict[str, int] = {"b": 0, "c": 0, "other": 0, "plain": 0}

    def count(name: str) -> object:
        def handler(_msg: Msg) -> None:
            heard[name] += 1

        return handler

    await b.subscribe("t.q", count("b"), "g")  # type: ignore[arg-type]
    await c.subscribe("t.q", count("c"), "g")  # type: ignore[arg-type]
    await c.subscribe("t.q", count("other"), "g2")  # type: ignore[arg-type]
    await c.subscribe("t.q", count("plain"))  # type: ignore[arg-type]
    for _ in range(200):
        a.publish("t.q", b"1")
    await net.settle(a, b, c)
    assert heard["b"] + heard["c"] == 200
    assert min(heard["b"], heard["c"]) > 20
    assert (heard["other"], heard["plain"]) == (200, 200)


async def test_request_and_answer(net: Net) -> None:
    """Many at a time, each its own answer; the reply subject is in the own inbox."""
    a, b = await net.connect("a"), await net.connect("b")
    replies: list[str] = []

    def handler(msg: Msg) -> None:
        replies.append(msg.reply)
        b.publish(msg.reply, msg.data * 2)

    await b.subscribe("t.r", handler)
    answers = await asyncio.gather(*(a.request("t.r", b"%d" % number, 2) for number in range(50)))
    assert [msg.data for msg in answers] == [b"%d" % number * 2 for number in range(50)]
    assert all(reply.startswith("_R.a.") for reply in replies)
    assert len(set(replies)) == 50


async def test_nobody_there_is_told_at_once(net: Net) -> None:
    """NoResponders comes without waiting for the time-out."""
    a = await net.connect("a")
    async with asyncio.timeout(5):
        with pytest.raises(NoResponders):
            await a.request("t.nobody", b"1", 60)


async def test_no_answer_is_a_timeout(net: Net) -> None:
    """The outcome is unknown; a late answer is nobody's."""
    a, b = await net.connect("a"), await net.connect("b")
    heard: list[Msg] = []
    await b.subscribe("t.slow", heard.append)
    with pytest.raises(RequestTimeout):
        await a.request("t.slow", b"1", 0.05)
    b.publish(heard[0].reply, b"late")
    await net.settle(b, a)
    await b.subscribe("t.r", answering(b))  # type: ignore[arg-type]
    assert (await a.request("t.r", b"2", 2)).data == b"2"


async def test_an_error_header_is_not_no_responders(net: Net) -> None:
    """Only the server's own empty 503 says that nobody listens."""
    a, b = await net.connect("a"), await net.connect("b")
    await b.subscribe("t.e", lambda msg: b.publish(msg.reply, b"x", "", {"Nats-Service-Error-Code": "503"}))
    assert (await a.request("t.e", b"1", 2)).data == b"x"


async def test_a_handler_never_runs_inside_publish(net: Net) -> None:
    """Also to oneself: what is published arrives in a later turn of the loop."""
    a = await net.connect("a")
    heard: list[Msg] = []
    await a.subscribe("t.self", heard.append)
    a.publish("t.self", b"1")
    assert heard == []
    await net.settle(a)
    assert len(heard) == 1


async def test_a_raising_handler_ends_nothing(net: Net) -> None:
    """The next messages still arrive."""
    a = await net.connect("a")
    heard: list[bytes] = []

    def handler(msg: Msg) -> None:
        heard.append(msg.data)
        raise ValueError

    await a.subscribe("t.x", handler)
    a.publish("t.x", b"1")
    a.publish("t.x", b"2")
    await net.settle(a)
    assert heard == [b"1", b"2"]


async def test_unsubscribe_is_at_once_and_drain_is_not(net: Net) -> None:
    """After unsubscribe begins nothing is delivered; drain delivers what was on its way."""
    a, b = await net.connect("a"), await net.connect("b")
    heard: list[bytes] = []
    gone = await b.subscribe("t.u", lambda msg: heard.append(b"u" + msg.data))
    drained = await b.subscribe("t.d", lambda msg: heard.append(b"d" + msg.data))
    a.publish("t.u", b"1")
    a.publish("t.d", b"1")
    await a.flush()
    await gone.unsubscribe()
    await drained.drain()
    assert heard == [b"d1"] or (heard[:1] == [b"u1"] and heard[1:] == [b"d1"])
    a.publish("t.u", b"2")
    a.publish("t.d", b"2")
    await net.settle(a, b)
    assert b"u2" not in heard
    assert b"d2" not in heard


async def test_inboxes_are_fresh_and_ones_own(net: Net) -> None:
    """Each is below ``_R.<principal>.`` and can be subscribed to without meeting the answers of requests."""
    a, b = await net.connect("a"), await net.connect("b")
    inbox, other = a.new_inbox(), a.new_inbox()
    assert inbox != other
    assert inbox.startswith("_R.a.")
    heard: list[bytes] = []
    await a.subscribe(inbox, lambda msg: heard.append(msg.data))
    b.publish(inbox, b"1")
    b.publish(other, b"2")
    await net.settle(b, a)
    assert heard == [b"1"]


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb"])
async def test_a_subject_cannot_break_the_protocol(net: Net, subject: str) -> None:
    """White space in a subject or reply is refused before anything is sent."""
    a = await net.connect("a")
    with pytest.raises(CallerError):
        a.publish(subject, b"")
    with pytest.raises(CallerError):
        await a.request(subject, b"", 1)
    if subject:
        with pytest.raises(CallerError):
            a.publish("t.x", b"", subject)
    await a.flush()


async def test_more_than_the_server_takes_is_refused_here(net: Net) -> None:
    """The server would cut the connection for it."""
    a = await net.connect("a")
    with pytest.raises(CallerError) as caught:
        a.publish("t.x", bytes(1_048_577))
    assert caught.value.code == "too_large"
    a.publish("t.x", bytes(1_048_576))
    await a.flush()


async def test_without_a_server_nothing_is_sent_and_all_comes_back(own_net: Net) -> None:
    """NotConnected, not a buffer; waiting requests end; later everything works as before, hooks told."""
    a, b = await own_net.connect("a"), await own_net.connect("b")
    told: list[str] = []
    a.on_disconnect(lambda: told.append("down"))
    a.on_reconnect(lambda: told.append("up"))
    heard: list[bytes] = []
    await b.subscribe("t.x", lambda msg: heard.append(msg.data))
    await b.subscribe("t.r", answering(b))  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(a.request("t.x", b"0", 30))
    await own_net.settle(a, b)
    own_net.stop()
    with pytest.raises(RequestTimeout):
        await asyncio.wait_for(waiting, 3)
    await eventually(lambda: not a.is_connected and not b.is_connected)
    with pytest.raises(NotConnected):
        a.publish("t.x", b"lost")
    with pytest.raises(NotConnected):
        await a.request("t.r", b"1", 1)
    with pytest.raises(NotConnected):
        await a.flush()
    with pytest.raises(NotConnected):
        await a.subscribe("t.y", heard.append)  # type: ignore[arg-type]
    own_net.start()
    await eventually(lambda: told == ["down", "up"] and b.is_connected)
    await own_net.settle(a, b)
    assert (await a.request("t.r", b"1", 2)).data == b"1"
    assert heard == [b"0"]


async def test_a_closed_bus_is_not_connected(net: Net) -> None:
    """Closing ends waiting requests and may be repeated."""
    a, b = await net.connect("a"), await net.connect("b")
    await b.subscribe("t.x", lambda _msg: None)
    waiting = asyncio.ensure_future(a.request("t.x", b"0", 30))
    await net.settle(a, b)
    await a.close()
    await a.close()
    with pytest.raises(RequestTimeout):
        await waiting
    assert not a.is_connected
    with pytest.raises(NotConnected):
        a.publish("t.x", b"1")


async def test_two_connections_of_one_principal_do_not_share_answers(net: Net) -> None:
    """Each has a session of its own in the inbox."""
    a1, a2, b = await net.connect("a"), await net.connect("a"), await net.connect("b")
    await b.subscribe("t.r", answering(b))  # type: ignore[arg-type]
    answers = await asyncio.gather(a1.request("t.r", b"1", 2), a2.request("t.r", b"2", 2))
    assert [msg.data for msg in answers] == [b"1", b"2"]


async def test_memory_permissions() -> None:
    """The twin refuses what its allow-lists do not have."""
    network = MemoryNetwork()
    limited, spy = network.connect("limited"), network.connect("spy")
    limited.may_publish = ["t.open", "_R.limited.>"]
    limited.may_subscribe = ["t.open", "_R.limited.>"]
    heard: list[str] = []
    await spy.subscribe(">", lambda msg: heard.append(msg.subject))
    limited.publish("t.secret", b"1")
    limited.publish("t.open", b"1")
    await spy.flush()
    assert heard == ["t.open"]
    assert limited.denied == ["t.secret"]
    for subject in ("t.secret", "t.*", ">", "_R.*.>"):
        with pytest.raises(PermissionDenied):
            await limited.subscribe(subject, lambda _msg: None)
    await limited.subscribe("_R.limited.x.*", lambda _msg: None)
