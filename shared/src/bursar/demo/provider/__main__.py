"""Run the judge: ``python -m bursar.demo.provider --port 0 --config '{"keys": {"sk-demo": {"requests": 100}}}'``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .app import Judge
from .settings import Settings, SettingsError, from_json


async def run(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; the first line on standard output says where."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    judge = Judge(settings)
    server = await judge.serve(host, port)
    where = server.sockets[0].getsockname()
    print(json.dumps({"host": where[0], "port": where[1], "started_ms": judge.started_ms}), flush=True)
    gc.freeze()
    gc.set_threshold(50_000, 100, 100)
    await stop.wait()
    server.close()


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: a third less CPU a call."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    parser = argparse.ArgumentParser(prog="bursar.demo.provider", description="A strict chat provider that counts.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--config", default="{}", help="settings as JSON, or @FILE")
    arguments = parser.parse_args()
    text: str = arguments.config
    try:
        settings = from_json(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (SettingsError, OSError) as error:
        print(f"bursar.demo.provider: {error}", file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(run(settings, arguments.host, arguments.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
