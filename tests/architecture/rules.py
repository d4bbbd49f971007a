"""The rules of the house, as functions from source text to violations.

Each takes files and returns one line per violation, so that a test can show that the tree has none and another that
a seeded violation is caught. An exception to a rule is a constant here, with its reason; there is no other way.

Run as a program (``python -m tests.architecture.rules``) it prints the pure files, for the coverage gate.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch

from tests.architecture.source import Source, read_product

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

KERNEL_SHELL = (
    "acts.py",  # writes into the audit log
    "clock.py",  # reads the clock
    "doors.py",  # adds endpoints to the network
    "fairness.py",  # rates of requests, by the clock
    "exposition.py",  # reads what the network's endpoints count
    "faults.py",  # writes the log
    "floor.py",  # a small file
    "forked.py",  # another process
    "health.py",  # answers HTTP
    "hearing.py",  # listens to other services
    "host.py",  # a service's process
    "inbox_reader.py",  # reads messages off the network
    "keeper.py",  # writes snapshots into the journal
    "loader.py",  # reads them, and the journal
    "pauses.py",  # measures the process
    "process.py",  # sets up the process
    "pulse.py",  # waits between what an owner says again and again
    "rights_file.py",  # reads a file
    "room.py",  # purges the journal
    "runner.py",  # carries out what the replica says
    "settings.py",  # reads the environment
    "watching.py",  # tells of single requests: spans and lines
)
"""The files of the kernel that are not pure, beside the journals; all others are."""

SERVICE_SHELL = (
    "__init__.py", "__main__.py", "settings.py", "service.py", "diagram.py",
    "cgroups.py",  # writes the kernel's files
    "collector.py",  # asks the other services
    "control.py",  # serves simulated cards to other processes
    "host_limits.py",  # limits processes
    "host_plan.py",  # asks the monitor, in the probe's process
    "guard.py",  # answers processes of its host, and ends some
    "keda.py",  # serves gRPC
    "line_store.py",  # files
    "metrics.py",  # speaks to the Prometheus library, in threads
    "node.py",  # the probe's process
    "page.py",  # answers HTTP, in threads
    "page_asking.py",  # asks the other services for a page
    "page_door.py",  # a small file, and what browsers send
    "page_feed.py",  # threads wait for it
    "page_lines.py",  # threads ask it
    "numa.py",  # asks the operating system
    "nvml.py",  # asks the driver
    "probe.py",  # asks the operating system
    "processes.py",  # asks the operating system
    "web.py",  # serves HTTP
    "webhook.py",  # posts notifications over HTTP
)  # fmt: skip
"""The files of a service that are not part of its core (diagram.py writes into its README); all others are pure."""

PURE_SHARED = ("shared/src/bursar/batching.py", "shared/src/bursar/sketch.py")
"""Pure policies outside the kernel that agents and services share."""

PURE_LIBRARY = frozenset(
    {
        *("__future__", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "fractions"),
        *("functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "operator", "re", "string", "struct"),
        *("array", "types", "typing", "zlib", "msgpack", "numpy", "pydantic"),
    }
)
"""What a pure module may import from outside: no IO, no clock, no threads, no randomness."""

PURE_PROJECT = ("bursar.contracts", "bursar.errors", "bursar.kernel.clock.DeciderTime", "bursar.sketch")
"""What a pure module may import from Bursar beside pure modules. DeciderTime only adds the deltas it is given."""

IMPURE_BUILTINS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})

CLOCKS = frozenset(
    [f"time.{name}{ns}" for name in ("time", "monotonic", "perf_counter", "process_time") for ns in ("", "_ns")]
    + [f"time.{name}" for name in ("clock_gettime", "clock_gettime_ns", "localtime", "gmtime", "ctime", "strftime")]
    + [f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")]
    + ["datetime.date.today"]
)

CLOCK_READERS = (
    "shared/src/bursar/kernel/clock.py",  # the clock of the services
    "shared/src/bursar/kernel/fairness.py",  # how fast somebody asks: refused before anything is decided
    "shared/src/bursar/kernel/pauses.py",  # how long the process stood still: a report, no decision
    "shared/src/bursar/client/time.py",  # the clock of the agents
    "shared/src/bursar/telemetry/traces.py",  # when spans begin and end
    "shared/src/bursar/audit/*",  # when a record was made, for people
    "shared/src/bursar/callout/*",  # dates in tokens
    "shared/src/bursar/bus/*",  # time-outs of the network, dates in credentials
    "shared/src/bursar/cli/*",  # what a person is told
    "shared/src/bursar/demo/*",  # measures the others; the judge has a clock of its own
)

LOOP_TIMERS = ("shared/src/bursar/kernel/runner.py", "shared/src/bursar/client/background.py")
"""These may ask the event loop for its time, and only it: how long they drain at their end."""

NATS_USERS = ("shared/src/bursar/bus/*", "shared/src/bursar/kernel/journal/*")


def is_pure(path: str) -> bool:
    """Is this file a core: a policy module of a service, a shared one, or one of the pure modules of the kernel?"""
    if path in PURE_SHARED:
        return True
    folder, _, file = path.rpartition("/")
    if folder == "shared/src/bursar/kernel":
        return file not in KERNEL_SHELL
    return fnmatch(folder, "services/*/src/*") and file not in SERVICE_SHELL


def pure_cores(sources: Iterable[Source]) -> list[str]:
    """Cores import no IO, no clock, no randomness, no module of Bursar that does, and open no files."""
    sources = list(sources)
    pure = {source.module for source in sources if is_pure(source.path)}
    return [line for source in sources if is_pure(source.path) for line in _impurities(source, pure)]


def _impurities(source: Source, pure: set[str]) -> Iterator[str]:
    for found in source.imports:
        outside = found.module.partition(".")[0]
        if outside in PURE_LIBRARY or found.module in pure or found.target in pure:
            continue
        if not any(found.is_below(allowed) for allowed in PURE_PROJECT):
            yield f"{source.path}:{found.line}: a pure module imports {found.target}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS:
            yield f"{source.path}:{node.lineno}: a pure module calls {node.func.id}()"
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield f"{source.path}:{node.lineno}: a pure module awaits"


def no_sibling_services(sources: Iterable[Source]) -> list[str]:
    """Services never import each other, and what they share imports none of them (they are found as entry points)."""
    sources = list(sources)
    services = {source.module.partition(".")[0] for source in sources if source.path.startswith("services/")}
    return [
        f"{source.path}:{found.line}: imports the service {found.module}"
        for source in sources
        for found in source.imports
        if (package := found.module.partition(".")[0]) in services and package != source.module.partition(".")[0]
    ]


def client_without_kernel(sources: Iterable[Source]) -> list[str]:
    """Importing `bursar.client` never loads `bursar.kernel`, not even through another module."""
    by_module = {source.module: source for source in sources}
    start = [name for name in by_module if name == "bursar" or f"{name}.".startswith("bursar.client.")]
    via, queue, found = dict.fromkeys(start, ""), list(start), []
    while queue:
        name = queue.pop()
        for target in _loaded_by(by_module[name], by_module):
            if target in via:
                continue
            via[target] = name
            if f"{target}.".startswith("bursar.kernel."):
                found.append(f"{by_module[name].path}: loads {target} ({_path(via, target)})")
            else:
                queue.append(target)
    return found


def _loaded_by(source: Source, known: dict[str, Source]) -> Iterator[str]:
    """The modules of the project that importing this one loads, packages above them included."""
    for found in source.imports:
        target = found.target if found.target in known else found.module
        parts = target.split(".")
        yield from (name for end in range(1, len(parts) + 1) if (name := ".".join(parts[:end])) in known)


def _path(via: dict[str, str], target: str) -> str:
    steps = [target]
    while via[steps[-1]]:
        steps.append(via[steps[-1]])
    return " <- ".join(steps)


def nats_only_in_bus(sources: Iterable[Source]) -> list[str]:
    """Only `bursar.bus` and `bursar.kernel.journal` import nats."""
    return [
        f"{source.path}:{found.line}: imports {found.target}"
        for source in sources
        if not any(fnmatch(source.path, allowed) for allowed in NATS_USERS)
        for found in source.imports
        if found.module.partition(".")[0] == "nats"
    ]


def clock_only_in_clock(sources: Iterable[Source]) -> list[str]:
    """Nobody reads a clock but the modules that are there for it; everybody else is given the time."""
    return [
        f"{source.path}:{line}: reads {clock}"
        for source in sources
        if not any(fnmatch(source.path, allowed) for allowed in CLOCK_READERS)
        for line, clock in _clock_reads(source)
    ]


def _clock_reads(source: Source) -> Iterator[tuple[int, str]]:
    names = _names(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute | ast.Name) and (dotted := _dotted(node, names)) in CLOCKS:
            yield node.lineno, dotted
        elif isinstance(node, ast.Call) and _is_loop_time(node.func, names) and source.path not in LOOP_TIMERS:
            yield node.lineno, "the event loop's time()"


def _is_loop_time(called: ast.expr, names: dict[str, str]) -> bool:
    """Any method called ``time`` is taken for the event loop's, but for `time.time`, which has its own line."""
    return isinstance(called, ast.Attribute) and called.attr == "time" and _dotted(called, names) not in CLOCKS


def _names(source: Source) -> dict[str, str]:
    """What each imported name stands for: ``import time as t`` gives t -> time."""
    names = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value, names)
        return f"{base}.{node.attr}" if base else ""
    return ""


def short_files(sources: Iterable[Source]) -> list[str]:
    """A file has at most 400 lines."""
    return [
        f"{source.path}: {lines} lines (at most {MAX_FILE_LINES})"
        for source in sources
        if (lines := source.text.count("\n")) > MAX_FILE_LINES
    ]


def short_functions(sources: Iterable[Source]) -> list[str]:
    """A function has at most 60 lines, its docstring included."""
    return [
        f"{source.path}:{node.lineno}: {node.name} has {lines} lines (at most {MAX_FUNCTION_LINES})"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


if __name__ == "__main__":
    sys.stdout.write(",".join(source.path for source in read_product() if is_pure(source.path)))
