"""A NATS client that does whatever it likes: it writes protocol lines and shows what the server says to them.

The server handles one connection's lines in order and reports each violation before it answers the next PING, so
`verdict` is exact and needs no waiting: no `-ERR` before the PONG means that the server allowed it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bursar.bus.identity import jwt, keys


@dataclass(slots=True)
class Heard:
    subject: str
    reply: str
    payload: bytes


@dataclass
class Attacker:
    """A raw connection with somebody's real credentials."""

    url: str
    creds: Path
    heard: list[Heard] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _next_sid: int = 1
    _reader: asyncio.StreamReader = field(init=False, repr=False)
    _writer: asyncio.StreamWriter = field(init=False, repr=False)

    async def __aenter__(self) -> Self:
        place = urlsplit(self.url)
        self._reader, self._writer = await asyncio.open_connection(place.hostname, place.port)
        info = json.loads((await self._reader.readline()).removeprefix(b"INFO "))
        self._write(f"CONNECT {json.dumps(self._login(info['nonce']))}\r\n".encode())
        await self.verdict()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def publish(self, subject: str, payload: bytes = b"x", reply: str = "", headers: str = "") -> list[str]:
        """Publish and return the errors that the server reports for it."""
        if headers:
            head = f"NATS/1.0\r\n{headers}\r\n\r\n".encode()
            line = f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n".encode()
            self._write(line + head + payload + b"\r\n")
        else:
            self._write(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
        return await self.verdict()

    async def subscribe(self, subject: str, queue: str = "") -> list[str]:
        """Subscribe and return the errors that the server reports for it."""
        self._write(f"SUB {subject} {queue} {self._next_sid}\r\n".encode())
        self._next_sid += 1
        return await self.verdict()

    async def verdict(self) -> list[str]:
        """The errors since the last call; everything sent before has been handled when this returns."""
        self._write(b"PING\r\n")
        async with asyncio.timeout(5):
            while (line := await self._line()) != "PONG":
                if line.startswith("-ERR"):
                    self.errors.append(line)
                elif line == "":
                    self.errors.append("closed")
                    break
        found, self.errors = self.errors, []
        return found

    async def until_heard(self, count: int) -> None:
        """Return when so many messages have come, whoever sends them in his own time; and all that came with them."""
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                await self.verdict()
        await self.verdict()

    def _login(self, nonce: str) -> dict[str, object]:
        text = self.creds.read_text()
        seed = text.split("-----BEGIN USER NKEY SEED-----\n")[1].splitlines()[0]
        signature = base64.urlsafe_b64encode(keys.KeyPair(seed.encode()).sign(nonce.encode())).rstrip(b"=").decode()
        return {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "jwt": jwt.token_in(text),
            "sig": signature,
        }

    def _write(self, data: bytes) -> None:
        self._writer.write(data)

    async def _line(self) -> str:
        try:
            line = (await self._reader.readline()).decode().rstrip("\r\n")
        except ConnectionError:
            return ""
        if line == "PING":
            self._write(b"PONG\r\n")
        if line.startswith(("MSG ", "HMSG ")):
            await self._message(line.split())
        return line

    async def _message(self, words: list[str]) -> None:
        size = int(words[-1])
        payload = (await self._reader.readexactly(size + 2))[:size]
        sizes = 2 if words[0] == "HMSG" else 1
        reply = words[3] if len(words) == 4 + sizes else ""
        self.heard.append(Heard(words[1], reply, payload))
