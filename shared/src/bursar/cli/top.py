"""``bursar top``: the fleet as a live table. It asks the services directly, so it works without the monitor, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.top_frame import Looker
from bursar.client.errors import NoCredentials
from bursar.client.monitor import FleetWatch
from bursar.client.target import Target, resolve

OPERATOR = "ops"


def top(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[str | None, typer.Option(help="NATS server; that of the running `bursar up` unless given.")] = None,
    creds: Annotated[
        Path | None, typer.Option(help="Credentials of an operator; those in the home unless given.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.2, max=60.0, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end (also when output is no terminal).")] = (
        False
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per look and line.")] = False,
) -> None:
    """Watch the fleet: services, budgets, circuits, GPUs, queue, workers, hosts, alerts.

    \b
    At the right of each row stands the age of its numbers: yellow from 4 s on, red from 15 s on. What is not known
    is shown as a dash, never as 0. Hosts and alerts come from the monitor, the rest from the services themselves.

    \b
    Keys:
      q  quit

    \b
    Examples:
      bursar top
      bursar top --interval 0.5
      bursar top --once | less -R
      bursar top --json --once | jq '.budgets[] | {budget, dimension, used, limit}'
    """
    try:
        target = resolve(url, creds, home, None if creds else OPERATOR)
        once = once or (not as_json and not sys.stdout.isatty())
        asyncio.run(run(target, interval, once=once, as_json=as_json))
    except (BusError, NoCredentials) as error:
        fail(error.text)


def register(app: typer.Typer) -> None:
    app.command("top", short_help="Watch the fleet as a live table.")(top)


async def run(target: Target, interval: float, *, once: bool, as_json: bool) -> None:
    """Look until somebody quits, or once."""
    async with looker(target) as found:
        if as_json:
            await _print_json(found, interval, once)
        elif once:
            _print_frame(found, await found.look())
        else:
            await _live(found, interval)


@contextlib.asynccontextmanager
async def looker(target: Target) -> AsyncIterator[Looker]:
    bus = await connect(target.url.split(","), target.creds, principal=target.principal, timeout=5.0)
    watch = FleetWatch(bus)
    try:
        await watch.start()
        yield Looker(watch, target.principal, target.url, time.monotonic)
    finally:
        await bus.close()


async def _print_json(found: Looker, interval: float, once: bool) -> None:
    while True:
        frame = await found.look(max(interval, 0.5))
        sys.stdout.write(json.dumps(frame.to_json(), separators=(",", ":")) + "\n")
        sys.stdout.flush()
        if once:
            return
        await asyncio.sleep(interval)


def _print_frame(found: Looker, frame: object) -> None:
    from rich.console import Console

    from bursar.cli.top_layout import screen

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(screen(found.frame()))


async def _live(found: Looker, interval: float) -> None:
    """Full screen; ages go on between two looks. Ends by q, Ctrl-C or SIGTERM."""
    from rich.console import Console
    from rich.live import Live

    from bursar.cli.top_layout import screen

    console, stop = Console(highlight=False), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    looking = loop.create_task(_look_for_ever(found, interval))
    try:
        with _keys(stop), Live(console=console, screen=True, auto_refresh=False) as live:
            while not stop.is_set() and not looking.done():
                live.update(screen(found.frame(), console.height - 1), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(interval, 0.5))
    finally:
        looking.cancel()
    if looking.done() and not looking.cancelled():
        looking.result()


async def _look_for_ever(found: Looker, interval: float) -> None:
    while True:
        await found.look(max(interval, 0.5))
        await asyncio.sleep(interval)


@contextlib.contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """Let q quit without Enter, where the input is a terminal."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield
        return
    import termios
    import tty

    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def read() -> None:
        if sys.stdin.read(1).lower() in {"q", ""}:
            stop.set()

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
