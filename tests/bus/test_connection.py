"""A healthy connection: permissions, hooks, limits, inboxes, and what nats-py is relied on for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from nats import errors as nats_errors
from nats.aio.client import Client

from bursar.bus.base import ConnectFailed, Msg, NoResponders, PermissionDenied, RequestTimeout
from bursar.bus.connection import NatsBus, connect
from bursar.bus.wire import MAX_UNSENT, parse_headers
from bursar.errors import CallerError
from tests.bus.support import RealServer, eventually

pytestmark = pytest.mark.integration

CONFIG = """
authorization: { timeout: 2, users: [
  { user: all, password: p }
  { user: limited, password: p, permissions: { publish: ["t.open"], subscribe: ["t.open", "_R.limited.>"] } }
  { user: echoing, password: p, permissions: {
      publish: ["t.open", "_R.echoing.>"], subscribe: ["t.open", "_R.echoing.>"] } }
] }
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server with users and permissions."""
    path: Path = tmp_path_factory.mktemp("nats") / "server.conf"
    path.write_text(CONFIG)
    server = RealServer("-c", str(path))
    server.start()
    yield server
    server.stop()


def url_for(server: RealServer, user: str) -> str:
    return f"nats://{user}:p@127.0.0.1:{server.port}"


async def test_a_refused_subscription_is_a_typed_error(guarded: RealServer) -> None:
    """Found at the start rather than never: with queue group or without; allowed ones go on working."""
    bus = await connect(url_for(guarded, "limited"), principal="limited")
    heard: list[Msg] = []
    for subject, queue in (("t.secret", ""), ("t.>", ""), ("t.Secret", "g"), ("_R.other.>", "")):
        with pytest.raises(PermissionDenied) as caught:
            await bus.subscribe(subject, heard.append, queue)
        assert caught.value.facts["subject"] == subject
    await bus.subscribe("t.open", heard.append)
    bus.publish("t.open", b"1")
    await bus.flush()
    assert [msg.data for msg in heard] == [b"1"]
    assert bus.counters.denied == 4
    await bus.close()


async def test_a_refused_publish_is_counted_and_told(guarded: RealServer) -> None:
    """The server says so later and of no message in particular; the connection stays."""
    bus = await connect(url_for(guarded, "limited"), principal="limited")
    told: list[tuple[str, str]] = []
    bus.on_trouble = lambda kind, what: told.append((kind, what))
    bus.publish("t.secret", b"1")
    with pytest.raises(RequestTimeout):
        await bus.request("t.secret", b"1", 0.1)
    assert told == [("denied_publish", "t.secret")] * 2
    assert bus.counters.denied == 2
    assert bus.is_connected
    await bus.close()


async def test_a_principal_that_may_not_echo_is_watched_all_the_same(
    guarded: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first refusal PING takes the echo's place; no refusal each second, no reconnect."""
    monkeypatch.setattr("bursar.bus.connection.WATCH_EVERY", 0.05)
    bus = await connect(url_for(guarded, "limited"), principal="limited")
    echoing = await connect(url_for(guarded, "echoing"), principal="echoing")
    await asyncio.sleep(0.5)
    assert bus.counters.errors == 1
    assert echoing.counters.errors == 0
    for each in (bus, echoing):
        assert (each.counters.denied, each.counters.forced_reconnects) == (0, 0)
        assert each.is_connected
        await each.close()


async def test_wrong_credentials_are_refused_at_once(guarded: RealServer, tmp_path: Path) -> None:
    """Waiting does not make them right."""
    async with asyncio.timeout(3):
        with pytest.raises(ConnectFailed, match="credentials"):
            await connect(f"nats://all:wrong@127.0.0.1:{guarded.port}", principal="all", timeout=30)
        with pytest.raises(ConnectFailed, match="credentials"):
            await connect(guarded.url, tmp_path / "none.creds", principal="all", timeout=30)


async def test_an_ended_connection_is_told(guarded: RealServer) -> None:
    """When the server ends it for good, the owner of the process is told; closing it oneself is no such end."""
    ended: list[str] = []
    bus = await connect(url_for(guarded, "all"), principal="all", on_closed=lambda: ended.append("closed"))
    await bus.client._process_err("'user authentication revoked'")
    await eventually(lambda: ended == ["closed"])
    assert bus.is_closed
    other = await connect(url_for(guarded, "all"), principal="all", on_closed=lambda: ended.append("again"))
    await other.close()
    assert ended == ["closed"]


@pytest.mark.parametrize("principal", ["", "A", "a.b", "a*", "a b", "-a", "x" * 65])
async def test_a_principal_must_be_one_plain_token(real_server: RealServer, principal: str) -> None:
    """It becomes part of subjects and permissions."""
    with pytest.raises(ConnectFailed):
        await connect(real_server.url, principal=principal)


async def test_a_flush_confirms_what_was_published_before_it(
    real_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py writes its PING before the commands that wait in the buffer; here they go first."""
    bus = await connect(real_server.url, principal="a")
    written: list[bytes] = []
    transport = bus.client._transport
    assert transport is not None
    write, writelines = transport.write, transport.writelines

    def spy(data: bytes) -> None:
        written.append(data)
        write(data)

    def spy_lines(lines: list[bytes]) -> None:
        written.append(b"".join(lines))
        writelines(lines)

    monkeypatch.setattr(transport, "write", spy)
    monkeypatch.setattr(transport, "writelines", spy_lines)
    bus.publish("t.x", b"1")
    await bus.flush()
    assert [data[:4] for data in written if data] == [b"PUB ", b"PING"]
    await bus.close()


async def test_a_turn_of_the_loop_is_one_write(real_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of answers costs one system call."""
    bus = await connect(real_server.url, principal="a")
    transport = bus.client._transport
    assert transport is not None
    writes: list[int] = []
    writelines = transport.writelines

    def spy(lines: list[bytes]) -> None:
        writes.append(len(lines))
        writelines(lines)

    monkeypatch.setattr(transport, "writelines", spy)
    for _ in range(100):
        bus.publish("t.x", b"1")
    await bus.flush()
    assert [count for count in writes if count] == [100]
    await bus.close()


async def test_nats_pys_own_commands_keep_their_place(real_server: RealServer) -> None:
    """Publishing through nats-py and through the bus share one buffer: order holds."""
    bus = await connect(real_server.url, principal="a")
    heard: list[bytes] = []
    await bus.subscribe("t.o", lambda msg: heard.append(msg.data))
    for number in range(50):
        if number % 2:
            bus.publish("t.o", b"%d" % number)
        else:
            await bus.client.publish("t.o", b"%d" % number)
    await bus.flush()
    assert heard == [b"%d" % number for number in range(50)]
    await bus.close()


async def test_what_the_server_does_not_take_is_bounded(real_server: RealServer) -> None:
    """Beyond the bound publishing says that there is no connection; it never fills the memory."""
    assert MAX_UNSENT <= 16 * 1024 * 1024
    bus = await connect(real_server.url, principal="a")
    client = bus.client
    client._unsent = lambda: MAX_UNSENT + 1  # type: ignore[method-assign]
    with pytest.raises(Exception, match="does not take"):
        bus.publish("t.x", b"1")
    bus.cork()
    with pytest.raises(Exception, match="does not take"):
        bus.publish("t.x", b"1")
    bus.write_out()
    assert client._pending == []
    del client._unsent
    bus.publish("t.x", b"1")
    await bus.close()


async def test_what_this_user_may_send_holds_across_reconnects(
    real_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server tells the user's own limit some time after the login; to send more would end the connection."""
    bus = await connect(real_server.url, principal="a")
    await bus.client._process_info({"max_payload": 100})
    monkeypatch.setattr(bus.client, "_process_info", partial(Client._process_info, bus.client))  # not told again yet
    bus.client.abort()
    await eventually(lambda: bus.counters.reconnects == 1)
    assert bus.client._server_info["max_payload"] == 1_048_576
    with pytest.raises(CallerError, match="at most 100 bytes"):
        bus.publish("t.x", bytes(101))
    bus.publish("t.x", bytes(100))
    assert bus.counts["out_msgs"] == 1
    await bus.close()


async def test_nats_pys_own_subscriptions_still_work(real_server: RealServer) -> None:
    """JetStream and iterators of nats-py run on the same connection."""
    bus = await connect(real_server.url, principal="a")
    sub = await bus.client.subscribe("t.own")
    bus.publish("t.own", b"1", "", {"K": "v"})
    msg = await sub.next_msg(2)
    assert (msg.data, msg.headers) == (b"1", {"K": "v"})
    with pytest.raises(nats_errors.NoRespondersError):
        await bus.client.request("t.nobody", b"", 2)
    await bus.close()


async def test_slow_consumers_are_counted_and_told(real_server: RealServer) -> None:
    """A queue of nats-py that overflows loses messages: the hook hears of each, the log does not."""
    bus = await connect(real_server.url, principal="a")
    told: list[tuple[str, str]] = []
    bus.on_trouble = lambda kind, what: told.append((kind, what))
    await bus.client.subscribe("t.slow", pending_msgs_limit=1)
    for _ in range(3):
        bus.publish("t.slow", b"1")
    await bus.flush()
    assert told == [("slow_consumer", "t.slow")] * 2
    assert bus.counters.slow_consumers == 2
    await bus.close()


async def test_a_raising_handler_is_counted_and_not_shown(
    real_server: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    """By type only: a payload may be in what was raised."""
    bus = await connect(real_server.url, principal="a")

    def handler(msg: Msg) -> None:
        raise ValueError(msg.data)

    await bus.subscribe("t.bad", handler)
    with caplog.at_level(logging.DEBUG):
        bus.publish("t.bad", b"secret")
        await bus.flush()
    assert bus.counters.handler_errors == 1
    assert "secret" not in caplog.text
    await bus.close()


async def test_a_reply_subject_that_is_not_utf8_costs_nobody_a_connection(real_server: RealServer) -> None:
    """The server passes on whatever bytes an agent names; who hears them goes on hearing."""
    bus = await connect(real_server.url, principal="svc")
    heard: list[tuple[str, bytes]] = []
    await bus.subscribe("t.odd", lambda msg: heard.append((msg.reply, msg.data)))
    _, agent = await asyncio.open_connection("127.0.0.1", real_server.port)
    agent.write(b'CONNECT {"verbose": false, "headers": true}\r\nPUB t.odd _R.a.\xff 1\r\n1\r\n')
    agent.write(b"HPUB t.odd _R.a.\xff 12 13\r\nNATS/1.0\r\n\r\n2\r\nPUB t.odd 1\r\n3\r\n")
    await eventually(lambda: len(heard) == 3)
    assert heard == [("_R.a.\ufffd", b"1"), ("_R.a.\ufffd", b"2"), ("", b"3")]
    assert (bus.counters.disconnects, bus.counters.handler_errors) == (0, 0)
    agent.close()
    await bus.close()


async def test_requests_leave_nothing_behind(real_server: RealServer) -> None:
    """Answered, timed out, refused or cancelled: no entry stays."""
    bus = await connect(real_server.url, principal="a")
    await bus.subscribe("t.r", lambda msg: bus.publish(msg.reply, b"1"))
    await bus.subscribe("t.n", lambda _msg: None)
    await bus.request("t.r", b"", 1)
    with pytest.raises(RequestTimeout):
        await bus.request("t.n", b"", 0.01)
    with pytest.raises(NoResponders):
        await bus.request("t.x", b"", 1)
    with pytest.raises(CallerError):
        await bus.request("t.r", bytes(2_000_000), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bus.request("t.n", b"", 5), 0.01)
    assert bus._answers._waiting == {}
    await bus.close()


async def test_an_unknown_reply_token_is_harmless(real_server: RealServer) -> None:
    """Whoever may publish to inboxes cannot disturb with tokens that are not waited for."""
    bus = await connect(real_server.url, principal="a")
    for token in ("0", "99", "x", "-1"):
        bus.publish(bus._inbox + token, b"1")
    await bus.flush()
    assert bus.counters.late_answers == 4
    assert bus.counts["late_answers"] == 4
    await bus.close()


def test_every_name_inside_nats_py_that_is_relied_on_exists() -> None:
    """A new release of nats-py must be looked at before it is used."""
    names = [
        *("_process_msg", "_process_connect_init", "_process_pong", "_process_info", "_process_err"),
        *("_attempt_reconnect", "_close", "_connect_to_server", "_send_ping", "_send_unsubscribe", "_remove_sub"),
    ]
    for name in names:
        assert callable(getattr(Client, name))


async def test_every_attribute_inside_nats_py_that_is_relied_on_exists(real_server: RealServer) -> None:
    """The same for its fields, on a live connection."""
    bus: NatsBus = await connect(real_server.url, principal="a")
    base = set(vars(Client())) | set(dir(Client))
    assert base >= {
        "_pending", "_pending_data_size", "_transport", "_status", "_max_payload", "_pongs", "_sid", "_subs", "stats",
        "_reading_task", "_reconnection_task", "_pings_outstanding", "_pongs_received",
    }  # fmt: skip
    assert bus.client._socket() is not None
    await bus.close()


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (b"NATS/1.0\r\nA: b\r\n\r\n", {"A": "b"}),
        (b"NATS/1.0\r\nA:b\r\nC:  d e \r\n\r\n", {"A": "b", "C": "d e"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n",
         {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "7"}),
        (b"NATS/1.0\r\nA: b:c\r\n\r\n", {"A": "b:c"}),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "�"}),
        (b"NATS/1.0\r\nno colon\r\n: x\r\n\r\n", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)  # fmt: skip
def test_header_blocks(raw: bytes, headers: dict[str, str] | None) -> None:
    """Every form the server sends, and anything else without an exception."""
    assert parse_headers(raw) == headers
