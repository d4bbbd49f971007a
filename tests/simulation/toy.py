"""A small bank: the simplest decider that uses everything a decider may.

Accepted, refused and rejected commands, parked ones that wait for money, timers (holds that run out), internal
commands, a recovery that freezes withdrawals, and conservation that can be checked: what is in the accounts and in
holds is what was paid in less what was taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bursar.contracts.base import Message
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Park, Refuse, Reject

FREEZE_MS = 400


class Body(Message):
    """A message of the bank: ``op`` with an account, an amount and a time to wait or to hold (ms)."""

    op: str
    account: str = ""
    amount: int = 0
    ms: int = 0
    id: str = ""
    acked: int = 0
    seen: tuple[int, int, int] | None = None


class Bank:
    """``holds``: by fence of the decision: (account, amount, runs out at). ``waiting`` is volatile."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}
        self.holds: dict[str, tuple[str, int, int]] = {}
        self.paid_in = 0
        self.taken_out = 0
        self.frozen_until = 0
        self.ran_out = 0
        self.waiting: dict[tuple[str, str], tuple[Command, int]] = {}
        self.handed: Command | None = None


class BankDecider:
    name = "bank"
    version = 1

    def initial(self) -> Bank:
        return Bank()

    def decide(self, state: Bank, command: Command, now: int, fence: Fence) -> Outcome:
        body: Body = command.body
        rule = getattr(self, f"_{body.op}", None)
        if rule is None:
            return Reject("unknown_op", "the bank does not do that", {"op": body.op})
        outcome: Outcome = rule(state, command, body, now, fence)
        return outcome

    def _ask(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        return Refuse({"ok": True, "balance": state.accounts.get(body.account, 0), "at": now})

    def _pay(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        balance = state.accounts.get(body.account, 0) + body.amount
        return Accept([("paid", body.account, body.amount)], {"ok": True, "balance": balance, "at": now})

    def _take(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        balance = state.accounts.get(body.account, 0)
        if now < state.frozen_until or balance < body.amount:
            return Refuse({"ok": False, "balance": balance, "at": now})
        return Accept([("took", body.account, body.amount)], {"ok": True, "balance": balance - body.amount, "at": now})

    def _hold(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        if state.accounts.get(body.account, 0) < body.amount:
            return Refuse({"ok": False, "at": now})
        key = f"{fence[0]}.{fence[1]}.{fence[2]}"
        return Accept([("held", key, body.account, body.amount, now + body.ms)], {"ok": True, "hold": key, "at": now})

    def _wait(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        """Take, but wait for the money for a while."""
        key = (command.principal, command.request_id)
        balance = state.accounts.get(body.account, 0)
        deadline = state.waiting[key][1] if key in state.waiting else now + body.ms
        if now >= state.frozen_until and balance >= body.amount:
            state.waiting.pop(key, None)
            return Accept([("took", body.account, body.amount)], {"ok": True, "at": now})
        if now >= deadline:
            state.waiting.pop(key, None)
            return Refuse({"ok": False, "at": now})
        state.waiting[key] = (command, deadline)
        return Park()

    def _expire(self, state: Bank, command: Command, body: Body, now: int, fence: Fence) -> Outcome:
        return Accept([("ran_out", body.account)], {"ok": True})

    def evolve(self, state: Bank, event: Event) -> None:
        match event:
            case ("paid", account, amount):
                state.accounts[account] = state.accounts.get(account, 0) + amount
                state.paid_in += amount
            case ("took", account, amount):
                state.accounts[account] -= amount
                state.taken_out += amount
            case ("held", key, account, amount, until):
                state.accounts[account] -= amount
                state.holds[key] = (account, amount, until)
            case ("ran_out", key):
                account, amount, _ = state.holds.pop(key)
                state.accounts[account] += amount
                state.ran_out += 1
            case ("lost", until):
                state.frozen_until = max(state.frozen_until, until)
            case _:
                raise AssertionError(f"no such event: {event}")

    def due(self, state: Bank, now: int) -> Command | None:
        for key, (_, _, until) in state.holds.items():
            if until <= now:
                return Command("", "", Body(op="expire", account=key))
        for command, deadline in state.waiting.values():
            body = command.body
            if deadline <= now or (now >= state.frozen_until and state.accounts.get(body.account, 0) >= body.amount):
                return command
        return None

    def wake_at(self, state: Bank) -> int | None:
        times = [until for _, _, until in state.holds.values()]
        times += [deadline for _, deadline in state.waiting.values()]
        waiting = [command.body for command, _ in state.waiting.values()]
        if any(state.accounts.get(body.account, 0) >= body.amount for body in waiting):
            times.append(state.frozen_until)
        return min(times) if times else None

    def recover(self, state: Bank, now: int) -> Sequence[Event]:
        return [("lost", now + FREEZE_MS)]

    def dump(self, state: Bank) -> Any:
        holds = [[key, *hold] for key, hold in state.holds.items()]
        return [
            list(state.accounts.items()), holds, state.paid_in, state.taken_out, state.frozen_until, state.ran_out
        ]  # fmt: skip

    def load(self, value: Any) -> Bank:
        state = Bank()
        accounts, holds, state.paid_in, state.taken_out, state.frozen_until, state.ran_out = value
        state.accounts = dict(accounts)
        state.holds = {key: (account, amount, until) for key, account, amount, until in holds}
        return state

    def describe(self, event: Event) -> str:
        return " ".join(map(str, event))


def check_conservation(state: Bank) -> None:
    """Nothing is made and nothing vanishes; no account is overdrawn."""
    held = sum(amount for _, amount, _ in state.holds.values())
    total = sum(state.accounts.values()) + held
    assert total == state.paid_in - state.taken_out, f"{total} != {state.paid_in} - {state.taken_out}"
    assert all(balance >= 0 for balance in state.accounts.values()), state.accounts
