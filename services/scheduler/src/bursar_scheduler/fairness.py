"""How much each team, agent and program has had: the ledger that the order of waiting tasks is made from.

Service is slot time in milliseconds times the rate of the worker. What runs is counted while it runs: from its
assignment on with the expected run time, and once it takes longer with the time that it has really taken. At its end
the true amount replaces that. So nobody gains by starting much at once, and nobody pays for a bad estimate for long.

* Teams, and agents within a team, share by *weight*: virtual time = service / weight, the lowest goes first (start-time
  fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). Who was idle goes on at the virtual time of whoever was served
  last, so that idleness saves nothing up and costs nothing.
* Programs of one agent go by *attained service* (Autellix, arXiv 2502.13965): the sum over their calls (``plas``), or
  the longest path of calls that waited for each other (``atlas``). In both the service falls into levels whose width
  doubles, and within a level first come, first served.
* A *quota* gives a team or an agent slots of its own. What it does not use it lends, up to ``lend`` of them; beyond its
  own it borrows, up to ``borrow`` more, as long as the rest can still be given to those whose it is.

A function of the scheduler's events alone: integers, no clock, and equal histories give equal ledgers.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any, Final

from bursar_scheduler.accounts import FREE, Account, Group, Paid, Quota, Run, Spent, Who

QUANTUM_MS: Final = 2_000
"""Service within the first level of a program; each further level is twice as wide as the one before."""

STARVED_RATIO: Final = 8
STARVED_MS: Final = 5_000
"""A program whose calls have waited for eight times their service, and this call for 5 s, goes to the first level."""

MAX_SPENT: Final = 50_000
"""Sums of what slots cost: by team, agent, class and worker; who comes later is counted with all others."""
OTHERS: Final = ("others",) * 4

MAX_IDLE: Final = 20_000
"""Accounts of agents and of programs without tasks that are kept, each."""


class Ledger:
    """All accounts. ``rule``: ``plas`` or ``atlas``."""

    def __init__(self, rule: str = "plas") -> None:
        self.rule = rule
        self.runs: dict[str, Run] = {}
        self.quotas: dict[tuple[str, str], Quota] = {}
        self.top = Group()
        self.teams: dict[str, Account] = {}
        self.groups: dict[str, Group] = {}
        self.agents: dict[tuple[str, str], Account] = {}
        self.programs: dict[tuple[str, str], Account] = {}
        self.spent: dict[tuple[str, ...], Spent] = {}

    # ---- accounts

    def team(self, who: Who) -> Account:
        account = self.teams.get(who.team)
        if account is None:
            account = self.teams[who.team] = Account(self.top, self.quotas.get((who.team, ""), FREE))
            self.groups[who.team] = Group()
            self.groups[who.team].capacity = account.quota.slots or self.top.capacity
        return account

    def agent(self, who: Who) -> Account:
        account = self.agents.get(who[:2])
        if account is None:
            self.team(who)
            account = self.agents[who[:2]] = Account(self.groups[who.team], self.quotas.get(who[:2], FREE))
        return account

    def program(self, who: Who) -> Account:
        account = self.programs.get(who[1:])
        if account is None:
            account = self.programs[who[1:]] = Account()
        return account

    def _of(self, who: Who) -> tuple[Account, Account, Account]:
        team, agent, program = self.teams.get(who[0]), self.agents.get(who[:2]), self.programs.get(who[1:])
        return team or self.team(who), agent or self.agent(who), program or self.program(who)

    # ---- what happens

    def admit(self, who: Who) -> int:
        """A task of theirs is there from now on. Returns the longest path of calls of its program so far, which is the
        new call's own path unless the caller knows its parents."""
        accounts = self._of(who)
        for account in accounts:
            if not account.live:
                account.catch_up()
            account.live += 1
        return accounts[2].critical

    def retire(self, who: Who) -> None:
        """A task of theirs is gone; it must not run any more."""
        for account in self._of(who):
            account.live -= 1
        if len(self.programs) >= 2 * MAX_IDLE or len(self.agents) >= 2 * MAX_IDLE:
            self._forget(self.programs)
            self._forget(self.agents)

    def begin(
        self, who: Who, token: str, now: int, charge: int, rate: int = 1, path: int = 0, waited: int = 0,
        of: Paid | None = None,
    ) -> None:  # fmt: skip
        """An attempt has been assigned. ``charge``: its expected service; ``waited``: how long it has waited, in ms;
        ``of``: what it is paid for, if anybody is to know."""
        run = Run(who, now, max(1, charge), rate, path, of)
        self.runs[token] = run
        accounts = self._of(who)
        for account in accounts:
            group = account.group
            if group is not None:
                group.virtual = max(group.virtual, account.virtual(now))
            account.add(run, 1)
        program = accounts[2]
        program.waited += waited
        heappush(program.paths, (now - path, token))

    def end(self, token: str, now: int) -> int:
        """Its slot is free again; the service that it is charged in the end. Unknown tokens are nothing."""
        run = self.runs.pop(token, None)
        if run is None:
            return 0
        if run.of is not None:
            self._pay(run, run.of, run.rate * (now - run.since))
        service = max(1, run.rate * (now - run.since))
        accounts = self._of(run.who)
        for account in accounts:
            account.add(run, -1)
            account.settled += service
        program = accounts[2]
        program.critical = max(program.critical, run.path + max(1, now - run.since))
        self._drop_paths(program)
        for account in accounts:
            if account.changed:
                account.tell()
            if account.group is not None and account.group.parked:
                account.group.wake()
        return service

    def _pay(self, run: Run, of: Paid, took: int) -> None:
        """The slot is free again: what it cost; ``took``: slot milliseconds."""
        key: tuple[str, ...] = (run.who.team, run.who.agent, of.task_class, of.worker)
        if key not in self.spent and len(self.spent) >= MAX_SPENT:
            key = OTHERS
        before = self.spent.get(key) or Spent(of.kind, of.preemptible, 0, 0, 0)
        self.spent[key] = before._replace(
            attempts=before.attempts + 1, slot_ms=before.slot_ms + took, price_ms=before.price_ms + of.price * took
        )

    def _drop_paths(self, program: Account) -> None:
        """The earliest of the paths is one that still runs."""
        while program.paths and program.paths[0][1] not in self.runs:
            heappop(program.paths)

    # ---- rules

    def set_quota(self, team: str, agent: str, quota: Quota) -> None:
        """Give a team (agent "") or an agent other rules; from now on, with what runs counted."""
        self.quotas[team, agent] = quota
        who = Who(team, agent, "")
        account = self.agent(who) if agent else self.team(who)
        account.set_quota(quota)
        self.set_capacity(self.top.capacity)

    def set_capacity(self, slots: int) -> None:
        """Slots of all workers together."""
        self.top.capacity = slots
        for name, group in self.groups.items():
            group.capacity = self.teams[name].quota.slots or slots
        for account in [*self.teams.values(), *self.agents.values()]:
            account.tell()
        for group in (self.top, *self.groups.values()):
            group.wake()

    def held(self, who: Who) -> bool:
        """Whether a quota keeps their tasks from free slots."""
        return not (self.team(who).has_right() and self.agent(who).has_right())

    # ---- programs

    def attained(self, who: Who, now: int) -> int:
        """What their program has had, as the rule counts it."""
        return self.attained_by(self.program(who), now)

    def attained_by(self, program: Account, now: int) -> int:
        if self.rule == "plas":
            return program.service(now)
        self._drop_paths(program)
        return max(program.critical, now - program.paths[0][0]) if program.paths else program.critical

    def level(self, program: Account, now: int) -> int:
        """0 for programs that have had little, and one more each time that the service doubles."""
        return level_of(self.attained_by(program, now))

    def starves_at(self, program: Account, since: int, now: int) -> int:
        """When a call that waits since then has starved: waiting is so many times the service of its program."""
        return since + max(STARVED_MS, STARVED_RATIO * self.attained_by(program, now) - program.waited)

    # ---- keeping

    def _forget(self, accounts: dict[tuple[str, str], Account]) -> None:
        """Bound the idle ones: the older half goes. (An idle agent's virtual time is nearly that of its group.)"""
        if len(accounts) < 2 * MAX_IDLE:
            return
        idle = [name for name, account in accounts.items() if not (account.live or account.running or account.changed)]
        for name in idle[: len(idle) // 2]:
            account = accounts.pop(name)
            if account.group is not None:
                account.group.reserved -= account.unlent

    def dump(self) -> Any:
        return {
            "quotas": [[*name, *quota] for name, quota in self.quotas.items()],
            "capacity": self.top.capacity,
            "groups": [[name, group.virtual] for name, group in self._groups()],
            "teams": [[name, account.live, account.settled] for name, account in self.teams.items()],
            "agents": [[*name, account.live, account.settled] for name, account in self.agents.items()],
            "programs": [
                [*name, account.live, account.settled, account.waited, account.critical]
                for name, account in self.programs.items()
            ],
            "runs": [[token, *run.who, *run[1:5], list(run.of or ())] for token, run in self.runs.items()],
            "spent": [[list(key), *spent] for key, spent in self.spent.items()],
        }

    def _groups(self) -> Iterator[tuple[str, Group]]:
        yield "", self.top
        yield from ((f"team {name}", group) for name, group in self.groups.items())

    @classmethod
    def load(cls, value: Any, rule: str = "plas") -> Ledger:
        ledger = cls(rule)
        for team, agent, *quota in value["quotas"]:
            ledger.quotas[team, agent] = Quota(*quota)
        for team, live, settled in value["teams"]:
            account = ledger.team(Who(team, "", ""))
            account.live, account.settled = live, settled
        for team, agent, live, settled in value["agents"]:
            account = ledger.agent(Who(team, agent, ""))
            account.live, account.settled = live, settled
        for agent, program, live, settled, waited, critical in value["programs"]:
            account = ledger.program(Who("", agent, program))
            account.live, account.settled, account.waited, account.critical = live, settled, waited, critical
        for token, team, agent, program, since, charge, rate, path, of in value["runs"]:
            ledger.begin(Who(team, agent, program), token, since, charge, rate, path, of=Paid(*of) if of else None)
        ledger.spent = {tuple(key): Spent(*spent) for key, *spent in value["spent"]}
        for (_, group), (_, virtual) in zip(ledger._groups(), value["groups"], strict=True):
            group.virtual = virtual
        ledger.set_capacity(value["capacity"])
        return ledger


def level_of(service: int) -> int:
    return (service // QUANTUM_MS).bit_length()
