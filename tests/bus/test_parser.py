"""The short cut delivers exactly what nats-py's own parser delivers, however the bytes are cut."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from bursar.bus.parser import LONGEST, FastParser

Seen = list[tuple[Any, ...]]


class Client:
    """Notes what a parser reports; subscriptions below 10 have a plain handler."""

    def __init__(self) -> None:
        self.seen: Seen = []
        self.short_cuts = 0

    def frame(self, sid: int, subject: str, reply: str, data: bytes) -> bool:
        if sid >= 10:
            return False
        self.short_cuts += 1
        self.seen.append(("msg", sid, subject, reply, data, None))
        return True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.seen.append(("msg", sid, subject.decode(), reply.decode(), data, headers))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.seen.append(("info", info["max_payload"]))

    async def _process_err(self, error: str) -> None:
        self.seen.append(("err", error))


def anything(rng: random.Random) -> bytes:
    """One thing a server may send; payloads hold whatever could be mistaken for a frame."""
    payload = rng.choice([b"", b"x", b"\r\n", b"MSG a 1 3\r\nabc\r\n", b"PING\r\n", rng.randbytes(rng.randint(0, 400))])
    if rng.random() < 0.01:
        payload = rng.randbytes(rng.choice([LONGEST - 50, LONGEST + 50, 70_000]))
    sid = rng.choice([1, 2, 9, 9, 1, 10, 1000])
    reply = rng.choice(["", "_R.a.b.1 "])
    match rng.randrange(12):
        case 0:
            return b"PING\r\n"
        case 1:
            return b"PONG\r\n"
        case 2:
            return b'INFO {"max_payload": 65536} \r\n'
        case 3:
            return b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
        case 4:
            header = b"NATS/1.0\r\nA: b\r\n\r\n"
            sizes = f"{len(header)} {len(header) + len(payload)}"
            return f"HMSG t.h {sid} {reply}{sizes}\r\n".encode() + header + payload + b"\r\n"
        case 5:
            return b"+OK\r\n"
        case _:
            return f"MSG t.é.x {sid} {reply}{len(payload)}\r\n".encode() + payload + b"\r\n"


async def read(parser: Parser, stream: bytes, cuts: list[int]) -> None:
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        await parser.parse(stream[begin:end])


@pytest.mark.parametrize("seed", range(60))
async def test_the_same_comes_out_however_it_is_cut(seed: int) -> None:
    """A random stream, cut at random: the same reports in the same order as from nats-py's parser."""
    rng = random.Random(seed)
    stream = b"".join(anything(rng) for _ in range(rng.randint(1, 120)))
    count = min(len(stream) - 1, rng.choice([0, 1, 5, 50, 400]))
    cuts = sorted(rng.sample(range(1, len(stream)), count)) if len(stream) > 1 else []
    plain, short = Client(), Client()
    await read(Parser(plain), stream, [])
    await read(FastParser(short, short.frame), stream, cuts)
    assert short.seen == plain.seen


async def test_plain_frames_take_the_short_cut_and_keep_to_it() -> None:
    """A frame cut in two by the end of a read does not send the rest the long way."""
    client = Client()
    stream = b"MSG t.x 1 _R.a.1 3\r\nabc\r\n" * 1000
    await read(FastParser(client, client.frame), stream, list(range(1000, len(stream), 1000)))
    assert client.short_cuts == len(client.seen) == 1000


async def test_a_reset_forgets_half_a_frame() -> None:
    """After a reconnect the first bytes belong to a new connection."""
    client = Client()
    parser = FastParser(client, client.frame)
    await parser.parse(b"MSG t.x 1 10\r\nabc")
    parser.reset()
    parser.begin()
    await parser.parse(b"PING\r\n")
    assert client.seen == [("ping",)]


@pytest.mark.parametrize("cut", [3, 20_000])
async def test_rest_of_a_payload_is_no_frame_after_a_reset(cut: int) -> None:
    """What the failed connection still hands in is dropped, short or long: an agent may have written it."""
    client = Client()
    parser = FastParser(client, client.frame)
    await parser.parse(b"MSG t.x 1 30000\r\n" + b"x" * cut)
    parser.reset()
    feigned = b"MSG bursar.adm.limiter.reload.ops 1 _R.ops.1 1\r\nx\r\nPING\r\n"
    assert parser.take(feigned) == feigned
    await parser.parse(feigned)
    assert client.seen == []
    parser.begin()
    assert parser.take(b"MSG t.x 1 1\r\na\r\n") == b""
    assert client.seen == [("msg", 1, "t.x", "", b"a", None)]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_subject_that_is_not_utf8_ends_nothing(taken: bool) -> None:
    """An agent may name any bytes as its reply subject; the messages behind it are heard as ever."""
    client = Client()
    parser = FastParser(client, client.frame)
    stream = b"MSG t.x 1 _R.a.\xff\xfe 1\r\na\r\nMSG t.\xc3 1 1\r\nb\r\nMSG t.x 1 1\r\nc\r\n"
    if taken:
        assert parser.take(stream) == b""
    else:
        await parser.parse(stream)
    assert [row[2:5] for row in client.seen] == [
        ("t.x", "_R.a.\ufffd\ufffd", b"a"), ("t.\ufffd", "", b"b"), ("t.x", "", b"c")
    ]  # fmt: skip


async def test_what_comes_while_a_frame_is_handled_at_length_waits_for_its_turn() -> None:
    """nats-py's part of the parser may wait for something; what is read meanwhile is handed back, to come after it."""
    client = _Slow()
    parser = FastParser(client, client.frame)
    parsing = asyncio.ensure_future(parser.parse(b"PING\r\nMSG t.x 1 1\r\na\r\n"))
    await asyncio.sleep(0)
    later = b"MSG t.x 1 1\r\nb\r\n"
    assert parser.take(later) == later
    client.go_on.set()
    await parsing
    assert parser.take(later) == b""
    assert [row[0] if row[0] == "ping" else row[4] for row in client.seen] == ["ping", b"a", b"b"]


class _Slow(Client):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def _process_ping(self) -> None:
        await self.go_on.wait()
        await super()._process_ping()


@pytest.mark.parametrize("line", [b"MSG t.x\r\n", b"MSG t.x one 1\r\na\r\n", b"MSG t.x 1 -1\r\n\r\n", b"HELLO\r\n"])
async def test_what_is_no_protocol_is_nats_pys_error(line: bytes) -> None:
    """The short cut never raises on its own; a broken stream ends the connection as before."""
    client = Client()
    with pytest.raises(ProtocolError):
        await FastParser(client, client.frame).parse(line)
    assert client.seen == []
