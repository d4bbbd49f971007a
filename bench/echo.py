"""The peer of the durable path: a plain nats-py subscriber that answers with what it got. Run as a process."""

from __future__ import annotations

import asyncio
import sys

import nats
from nats.aio.msg import Msg

SUBJECT = "bench.echo"


async def main(url: str) -> None:
    client = await nats.connect(url)

    async def answer(msg: Msg) -> None:
        await msg.respond(msg.data)

    await client.subscribe(SUBJECT, cb=answer)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
