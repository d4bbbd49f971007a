"""A stand-in for the ``nats`` command line tool: the few commands and options that the examples use, nothing else.

The tool itself is not a Python package, so a machine that runs these tests need not have it. This one takes the same
words (what it does not know is an error), reads the same context file, and prints the same with ``--raw``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nats", allow_abbrev=False)
    parser.add_argument("--context", required=True, type=Path)
    parser.add_argument("--timeout", default="5s")
    commands = parser.add_subparsers(dest="command", required=True)
    request = commands.add_parser("req", allow_abbrev=False)
    subscribe = commands.add_parser("sub", allow_abbrev=False)
    publish = commands.add_parser("pub", allow_abbrev=False)
    for command in (request, subscribe, publish):
        command.add_argument("subject")
    for command in (request, publish):
        command.add_argument("body")
    for command in (request, subscribe):
        command.add_argument("--raw", action="store_true", required=True)
    subscribe.add_argument("--count", type=int, required=True)
    subscribe.add_argument("--translate")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> None:
    context = json.loads(asked.context.read_text())
    prefix = context["inbox_prefix"].encode()
    client = await nats.connect(context["url"], user_credentials=context["creds"], inbox_prefix=prefix)
    try:
        await {"req": request, "sub": subscribe, "pub": publish}[asked.command](client, asked)
    finally:
        await client.close()


async def request(client: Client, asked: argparse.Namespace) -> None:
    try:
        reply = await client.request(asked.subject, asked.body.encode(), float(asked.timeout.removesuffix("s")))
    except NoRespondersError:  # the tool says so on standard error, and ends well
        sys.stderr.write("No responders are available\n")
    else:
        sys.stdout.write(reply.data.decode() + "\n")


async def publish(client: Client, asked: argparse.Namespace) -> None:
    await client.publish(asked.subject, asked.body.encode())
    await client.flush()


async def subscribe(client: Client, asked: argparse.Namespace) -> None:
    messages: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(asked.subject, cb=messages.put)
    for _ in range(asked.count):
        data = (await messages.get()).data
        if asked.translate:
            done = subprocess.run(asked.translate.split(), input=data, stdout=subprocess.PIPE, check=True)  # noqa: ASYNC221
            data = done.stdout
        sys.stdout.write(data.decode().rstrip("\n") + "\n")


if __name__ == "__main__":
    asyncio.run(main(arguments()))
