"""The fleet's processes on this host, read from ``/proc``: who they are, what they use, how they end.

A process belongs to a group (`bursar.contracts.monitor_host`) by the module or script that it runs, else by the
credentials in its environment (``BURSAR_CREDS``), else by its parent. Each is asked for that once, and once more while
it is younger than two seconds, when it may yet become another program; the rest of the machine's processes are asked
again every half minute. What a look costs grows with the fleet's processes on the host, not with all of them.

A lease (`bursar_monitor.host_limits`) claims processes by number and start; their children belong to it, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bursar.contracts.monitor_host import GroupSample, ProcessSample
from bursar_monitor.lives import Lives
from bursar_monitor.pools import LEASED

PROC: Final = Path("/proc")
MAX_GROUPS: Final = 64
MAX_PROCESSES: Final = 64
MAX_TRACKED: Final = 512
MAX_NEW: Final = 256
"""Processes that are asked who they are in one look; the others come in the next."""
MAX_DEPTH: Final = 32
YOUNG_MS: Final = 2_000
AGAIN_MS: Final = 30_000
RESTLESS_MS: Final = 5_000
"""After a crash the processes are looked at more often for so long."""

TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4_096

_MODULE: Final = re.compile(r"bursar_(limiter|breaker|gpu_manager|scheduler|monitor)(\.node)?")
_SCRIPT: Final = re.compile(r"bursar-(limiter|breaker|gpu-manager|scheduler|monitor|node|gpu-node)")
_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")

Start = tuple[int, int]
"""A process for ever: its number, and when it started in ticks since the machine did."""


class Stat(NamedTuple):
    """``started`` and ``used``: ticks; ``own``: bytes that nobody shares."""

    parent: int
    started: int
    used: int
    rss: int
    own: int


class Life:
    """A process of the fleet. ``is_root``: somebody outside its group started it; ``cpu_milli``: since the look
    before."""

    __slots__ = ("age_ms", "cpu_milli", "group", "is_root", "lease", "pid", "stat", "used")

    def __init__(self, pid: int, group: str, stat: Stat) -> None:
        self.pid = pid
        self.group = group
        self.stat = stat
        self.is_root = True
        self.lease = ""
        self.used = stat.used
        self.cpu_milli = 0
        self.age_ms = 0


class Processes:
    """Looks at them. ``proc``: where the system shows its processes; ``tree``: a process of which descendants alone are
    looked at (0: all of the host). Times: ms of one monotonic clock."""

    def __init__(self, proc: Path = PROC, tree: int = 0) -> None:
        self._proc = proc
        self._root = str(proc)
        self._tree = tree
        self._others: set[int] = set()
        self._outside: set[int] = set()
        self._others_at = 0
        self._measured_at: int | None = None
        self._restless_until = 0
        self._lives: dict[str, Lives] = {}
        self._claims: dict[Start, str] = {}
        self.alive: dict[int, Life] = {}

    def claim(self, claims: Mapping[Start, str]) -> None:
        """These processes, and their children, belong to these leases."""
        if claims != self._claims:
            self._claims = dict(claims)
            self._others.clear()
            for life in self.alive.values():
                life.lease = ""

    def is_restless(self, now: int) -> bool:
        """Whether a process has crashed just now, so that it is worth looking more often."""
        return now < self._restless_until

    def scan(self, now: int, *, brief: bool = False) -> None:
        """See who is new, and who is gone. ``brief``: those that were there and are still listed are not read."""
        try:
            pids = {int(name) for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208 - 3x faster
        except OSError:
            return
        if now - self._others_at >= AGAIN_MS:
            self._others_at = now
            self._others.clear()
        self._others &= pids
        self._outside &= pids
        for pid in list(self.alive):
            if not brief or pid not in pids:
                self._follow(pid, pids, now)
        for pid in sorted(pids - self.alive.keys() - self._others)[:MAX_NEW]:
            self._meet(pid)
        if not brief:
            self._age()

    def _age(self) -> None:
        """How long each has run, and whose it is by now."""
        try:
            uptime = float((self._proc / "uptime").read_text(encoding="ascii").split()[0]) * 1_000
        except (OSError, ValueError, IndexError):
            return
        for life in self.alive.values():
            life.age_ms = max(0, round(uptime - life.stat.started * 1_000 / TICKS))
            self._place(life)

    def _follow(self, pid: int, pids: set[int], now: int) -> None:
        life = self.alive[pid]
        stat = self._stat(pid, life.stat) if pid in pids else None
        if stat is None or stat.started != life.stat.started:
            del self.alive[pid]
            if self._lives[life.group].ended(now, life.age_ms, life.is_root):
                self._restless_until = now + RESTLESS_MS
            return
        life.stat = stat
        if life.age_ms < YOUNG_MS and (group := self._who(pid, stat.parent)) not in {"", life.group}:
            life.group = group
            self._lives.setdefault(group, Lives()).started()

    def _meet(self, pid: int) -> None:
        """Somebody new: of the fleet, or one of the others."""
        group = ""
        stat = self._stat(pid, is_brief=True) if len(self.alive) < MAX_TRACKED else None
        if stat is not None:
            if self._is_below(pid, stat.parent):
                group = self._who(pid, stat.parent)
            if not group and (pid, stat.started) in self._claims:
                group = LEASED
        stat = self._stat(pid) if group else None
        if stat is None:
            self._others.add(pid)
            return
        self.alive[pid] = life = Life(pid, group, stat)
        self._place(life)
        self._lives.setdefault(group, Lives()).started()

    def _is_below(self, pid: int, parent: int) -> bool:
        """Whether a process with this parent belongs to the tree that is looked at."""
        for _ in range(MAX_DEPTH if self._tree else 0):
            if parent == self._tree or parent in self.alive:
                return True
            stat = self._stat(parent, is_brief=True) if parent > 1 and parent not in self._outside else None
            if stat is None:
                self._outside.add(pid)
                return False
            parent = stat.parent
        return not self._tree

    def _place(self, life: Life) -> None:
        """Whose it is: a root is one whose parent is of another group; a lease is inherited."""
        parent = self.alive.get(life.stat.parent)
        life.is_root = parent is None or parent.group != life.group
        inherited = "" if parent is None else parent.lease
        life.lease = self._claims.get((life.pid, life.stat.started), inherited)

    def _who(self, pid: int, parent: int) -> str:
        """The group of a process; "" when it is not of the fleet."""
        words = self._read(pid, "cmdline", 8_192)
        if not words:  # a thread of the kernel, or gone
            return ""
        if b"bursar" in words or b"nats-server" in words:
            group = group_of(words.decode(errors="replace").split("\0"))
            if group:
                return group
        if group := group_of_creds(self._read(pid, "environ", 65_536)):
            return group
        return self.alive[parent].group if parent in self.alive else ""

    def _stat(self, pid: int, before: Stat | None = None, *, is_brief: bool = False) -> Stat | None:
        """None for what is gone, or has ended and nobody has noticed. ``before``: what it was at the last look; what of
        its memory is its own is only asked when that has changed, and not where ``is_brief``."""
        try:
            fields = self._read(pid, "stat", 4_096).rpartition(b")")[2].split()
            if fields[0] in {b"Z", b"X"}:
                return None
            started, used, resident = int(fields[19]), int(fields[11]) + int(fields[12]), int(fields[21]) * PAGE
            if before is not None and (before.started, before.rss) == (started, resident):
                return Stat(int(fields[1]), started, used, resident, before.own)
            if is_brief:
                return Stat(int(fields[1]), started, used, resident, 0)
            shared = int(self._read(pid, "statm", 256).split()[2]) * PAGE
            return Stat(int(fields[1]), started, used, resident, max(0, resident - shared))
        except (ValueError, IndexError):
            return None

    def _read(self, pid: int, name: str, most: int) -> bytes:
        """A file of a process; empty when it has gone, or is somebody else's. Thrice as fast as by `Path`."""
        try:
            file = os.open(f"{self._root}/{pid}/{name}", os.O_RDONLY)
        except OSError:
            return b""
        try:
            return os.read(file, most)
        except OSError:
            return b""
        finally:
            os.close(file)

    def measure(self, now: int, free: int) -> tuple[GroupSample, ...]:
        """What all have used since the measure before; ``free``: bytes that are free on the host."""
        span = 0 if self._measured_at is None else now - self._measured_at
        self._measured_at = now
        own: dict[str, int] = {}
        for life in self.alive.values():
            ticks, life.used = max(0, life.stat.used - life.used), life.stat.used
            life.cpu_milli = ticks * 1_000_000 // (TICKS * span) if span > 0 else 0
            own[life.group] = own.get(life.group, 0) + life.stat.own
        for group, size in own.items():
            self._lives[group].grew(now, size)
        for group in [name for name, lives in self._lives.items() if name not in own and lives.is_idle(now)]:
            del self._lives[group]
        return self._groups(now, free)

    def largest(self) -> tuple[ProcessSample, ...]:
        """Those with most memory, as they were measured last."""
        largest = sorted(self.alive.values(), key=lambda life: (-life.stat.rss, life.pid))[:MAX_PROCESSES]
        return tuple(_sample(life) for life in largest)

    def _groups(self, now: int, free: int) -> tuple[GroupSample, ...]:
        members: dict[str, list[Life]] = {group: [] for group in self._lives}
        for life in self.alive.values():
            members[life.group].append(life)
        found = [
            GroupSample(
                group=group,
                processes=len(lives),
                cpu_milli=sum(life.cpu_milli for life in lives),
                rss_bytes=sum(life.stat.rss for life in lives),
                starts=self._lives[group].starts,
                crashes=self._lives[group].crashes(now),
                leak_permille=self._lives[group].leak_permille(free),
            )
            for group, lives in members.items()
        ]
        worst = sorted(found, key=lambda one: (-one.crashes, -one.leak_permille, -one.rss_bytes, one.group))
        return tuple(sorted(worst[:MAX_GROUPS], key=lambda one: one.group))


def _sample(life: Life) -> ProcessSample:
    return ProcessSample(
        pid=life.pid, group=life.group, cpu_milli=life.cpu_milli, rss_bytes=life.stat.rss, age_ms=life.age_ms
    )


def group_of(words: Iterable[str]) -> str:
    """The group that a command line says; "" when it says none."""
    words = [word for word in words if word]
    for place, word in enumerate(words):
        name = Path(word).name
        if (found := _MODULE.fullmatch(word)) is not None and place > 0:
            return "probe" if found[2] else found[1].replace("_", "-")
        if place < 2 and (found := _SCRIPT.fullmatch(name)) is not None:
            return "probe" if found[1].endswith("node") else found[1]
        if place == 0 and name == "nats-server":
            return "nats"
        if place > 0 and name in {"bursar", "bursar.cli.main"} and words[place + 1 : place + 2] == ["up"]:
            return "supervisor"
    return ""


def group_of_creds(environment: bytes) -> str:
    """The group that the credentials in an environment name; "" without."""
    found = re.search(rb"(?:^|\0)BURSAR_CREDS=([^\0]+)", environment)
    if found is None:
        return ""
    name = Path(os.fsdecode(found[1])).stem
    group = name.removeprefix("svc-").removesuffix("-log") if name.startswith("svc-") else f"agent.{name}"
    return group if _GROUP.fullmatch(group) else ""
