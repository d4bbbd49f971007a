"""The architecture holds in the tree as it is, and each rule catches a violation that is seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.architecture import rules
from tests.architecture.source import ROOT, Source, read, read_product

Rule = Callable[[Iterable[Source]], list[str]]

CORE = "services/limiter/src/bursar_limiter/core.py"
SERVICE = "services/limiter/src/bursar_limiter/service.py"
BREAKER = "services/breaker/src/bursar_breaker/core.py"
FOLD = "shared/src/bursar/kernel/fold.py"
CLIENT = "shared/src/bursar/client/limiter.py"
HOST = "shared/src/bursar/kernel/host.py"
BUS = "shared/src/bursar/bus/connection.py"


@pytest.fixture(scope="module")
def product() -> list[Source]:
    return read_product()


@pytest.mark.parametrize(
    "rule",
    [
        rules.pure_cores,
        rules.no_sibling_services,
        rules.client_without_kernel,
        rules.nats_only_in_bus,
        rules.clock_only_in_clock,
    ],
)
def test_the_tree_keeps_the_rule(rule: Rule, product: list[Source]) -> None:
    """The code that is installed has no violation of any rule."""
    violations = rule(product)
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("rule", [rules.short_files, rules.short_functions])
def test_files_and_functions_stay_short(rule: Rule) -> None:
    """Code, tests and benchmarks: at most 400 lines a file, 60 a function."""
    violations = rule(read("shared/src", "services/*/src", "tests", "bench", "examples"))
    assert not violations, "\n".join(violations)


def test_the_rules_look_at_real_files(product: list[Source]) -> None:
    """Every exception that is stated exists, and the cores are found: a rule over nothing would always hold."""
    for name in rules.KERNEL_SHELL:
        assert (ROOT / f"shared/src/bursar/kernel/{name}").is_file(), name
    for name in rules.SERVICE_SHELL:
        assert list(ROOT.glob(f"services/*/src/*/{name}")), name
    for pattern in (*rules.CLOCK_READERS, *rules.LOOP_TIMERS, *rules.NATS_USERS, *rules.PURE_SHARED):
        assert list(ROOT.glob(pattern)), pattern
    pure = {source.path for source in product if rules.is_pure(source.path)}
    assert CORE in pure
    assert FOLD in pure
    assert not {SERVICE, HOST, BUS} & pure


@pytest.mark.parametrize("path", [CORE, FOLD, "services/limiter/src/bursar_limiter/bucket.py"])
@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import os.path",
        "from time import monotonic",
        "import random",
        "from datetime import datetime",
        "import threading as t",
        "from subprocess import run",
        "import nats.js",
        "def f():\n    import socket",
        "from bursar.bus.base import Bus",
        "from bursar.kernel.clock import MonotonicClock",
        "from bursar.kernel import host",
        "from bursar_limiter.service import SPEC",
        "open('state')",
        "async def decide(): ...",
    ],
)
def test_io_in_a_core_is_caught(path: str, text: str) -> None:
    """A core imports no IO, no clock, no randomness, no thread, and nothing of Bursar that does."""
    assert len(rules.pure_cores([Source(path, text)])) == 1


def test_a_core_may_import_what_is_pure() -> None:
    """Contracts, other pure modules and the quiet part of the standard library are fine; a shell may import IO."""
    text = "import hashlib\nfrom bursar.contracts.limiter import Reserve\nfrom bursar.kernel.clock import DeciderTime\n"
    text += "from bursar.kernel.fold import Head\nfrom bursar_limiter import bucket\n"
    bucket = Source("services/limiter/src/bursar_limiter/bucket.py", "")
    shell = Source(SERVICE, "import asyncio")
    assert rules.pure_cores([Source(CORE, text), Source(FOLD, ""), bucket, shell]) == []


@pytest.mark.parametrize("path", [BREAKER, CLIENT])
@pytest.mark.parametrize("text", ["import bursar_limiter", "from bursar_limiter.core import Limiter"])
def test_an_import_of_a_sibling_service_is_caught(path: str, text: str) -> None:
    """Neither a service nor what they share imports a service; a service imports itself freely."""
    limiter = Source(CORE, text)
    assert rules.no_sibling_services([limiter]) == []
    assert len(rules.no_sibling_services([limiter, Source(path, text)])) == 1


def test_the_kernel_in_the_client_is_caught() -> None:
    """Directly, by a relative import, or through a module in between."""
    fold, client = Source(FOLD, ""), "from bursar.kernel.fold import Head"
    assert len(rules.client_without_kernel([fold, Source(CLIENT, client)])) == 1
    assert len(rules.client_without_kernel([fold, Source(CLIENT, "from ..kernel import fold")])) == 1
    bus = Source(BUS, "from bursar.kernel import fold")
    [line] = rules.client_without_kernel([fold, bus, Source(CLIENT, "import bursar.bus.connection")])
    assert line.endswith("(bursar.kernel.fold <- bursar.bus.connection <- bursar.client.limiter)")
    assert rules.client_without_kernel([fold, bus, Source(CLIENT, "import bursar.contracts")]) == []


@pytest.mark.parametrize(
    "text", ["import nats", "from nats.js.api import StreamConfig", "def f():\n    import nats.aio"]
)
def test_nats_outside_the_bus_is_caught(text: str) -> None:
    """Only the bus and the journal may speak to NATS themselves."""
    assert len(rules.nats_only_in_bus([Source(path, text) for path in (CLIENT, HOST, CORE)])) == 3
    assert rules.nats_only_in_bus([Source(BUS, text)]) == []
    assert rules.nats_only_in_bus([Source("shared/src/bursar/kernel/journal/jetstream.py", text)]) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import time as t\nnow = t.monotonic_ns()",
        "from time import perf_counter\nnow = perf_counter()",
        "import time\ndef f(clock=time.monotonic): ...",
        "from datetime import UTC, datetime\nnow = datetime.now(UTC)",
        "import datetime\nnow = datetime.datetime.now(datetime.UTC)",
        "from datetime import date as day\nnow = day.today()",
        "import asyncio\nnow = asyncio.get_running_loop().time()",
        "def f(loop):\n    return loop.time()",
    ],
)
def test_reading_a_clock_is_caught(text: str) -> None:
    """Time is given; only the clock modules and the stated shells read it."""
    assert len(rules.clock_only_in_clock([Source(HOST, text)])) == 1
    assert rules.clock_only_in_clock([Source("shared/src/bursar/kernel/clock.py", text)]) == []


def test_draining_may_ask_the_loop_but_no_other_clock() -> None:
    """The exception for the event loop's time is for that alone."""
    for path in rules.LOOP_TIMERS:
        assert rules.clock_only_in_clock([Source(path, "def f(loop):\n    return loop.time()")]) == []
        assert len(rules.clock_only_in_clock([Source(path, "import time\ntime.monotonic()")])) == 1


def test_sleeping_is_not_reading() -> None:
    """A module may name spans and sleep; that needs no clock of its own."""
    text = "import time\nfrom datetime import timedelta\ntime.sleep(timedelta(seconds=1).total_seconds())"
    assert rules.clock_only_in_clock([Source(HOST, text)]) == []


def test_long_files_and_functions_are_caught() -> None:
    """One line too many is too many."""
    assert rules.short_files([Source(HOST, "\n" * 400)]) == []
    assert len(rules.short_files([Source(HOST, "\n" * 401)])) == 1
    body = "def f():\n" + "    pass\n" * 59
    assert rules.short_functions([Source(HOST, body)]) == []
    assert len(rules.short_functions([Source(HOST, "async " + body + "    pass\n")])) == 1
