"""The rules of the registry from scratch, as slow and as plain as can be: every report is kept, everything is added up
anew at every question, and nothing is shared with the code that it judges but the words of messages and of rules.

Times are exact, so it takes rules without jitter. What it says of each circuit: state, end of its time, share, how
often it has opened in a row, successes of probes, reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bursar.contracts.breaker import Rule
from tests.breaker.model_words import (
    AT_ONCE,
    FAULTS,
    MINUTE,
    ORDERS,
    REASONS,
    Circuit,
    Counts,
    Lease,
    Log,
    Row,
    added,
    bad,
    made,
)


class Model:
    def __init__(self, rules: Sequence[Rule], groups: Mapping[str, Sequence[str]], now: int) -> None:
        self.rules = {rule.target: rule for rule in rules}
        self.groups = groups
        self.now = now
        self.revision = 0
        self.logs: dict[str, Log] = {}
        self.circuits: dict[str, Circuit] = {}
        self.leases: dict[str, Lease] = {}
        self.wishes: dict[str, int] = {}
        self.heard: dict[str, list[tuple[int, str]]] = {}

    # ---- names

    def path(self, target: str) -> list[str]:
        parts = target.split("/")
        return ["/".join(parts[: n + 1]) for n in range(len(parts))]

    def way(self, target: str) -> list[str]:
        path = self.path(target)
        return [f"group/{name}" for name, members in self.groups.items() if set(path) & set(members)] + path

    def rule(self, target: str) -> Rule:
        return next((self.rules[name] for name in self.path(target)[::-1] if name in self.rules), self.rules[None])

    def circuit(self, target: str) -> Circuit:
        return self.circuits.get(target, Circuit())

    def below(self, target: str) -> list[str]:
        if target.startswith("group/"):
            return list(self.groups[target.split("/")[1]])
        known = {*self.logs, *self.circuits}
        return [name for name in known if name.rpartition("/")[0] == target]

    # ---- changes

    def change(self, target: str, circuit: Circuit, *, keeps: bool = False) -> None:
        self.revision += 1
        before = self.circuit(target)
        is_same = circuit.state == before.state and (circuit.reason in {"ramp_step", "later_deadline"} or keeps)
        generation = before.generation if is_same and before.generation else self.revision
        since = before.since if is_same else self.now
        self.circuits[target] = replace(circuit, generation=generation, since=since)
        if not keeps:
            self.logs.pop(target, None)
        if circuit.state != "open":
            self.wishes.pop(target, None)

    def open(self, target: str, reason: str, retry_until: int) -> None:
        rule, before = self.rule(target), self.circuit(target)
        is_calm = before.state == "closed" and self.now - before.since >= rule.calm_ms
        opened = 0 if is_calm or target not in self.circuits else before.opened
        until = retry_until
        if reason != "overload":
            opened += 1
            time = rule.open_ms
            for _ in range(opened - 1):
                time = min(time * rule.growth_permille // 1000, rule.max_open_ms)
            until = max(until, self.now + min(time, rule.max_open_ms))
        by_evidence = reason != "auth"
        until = max(until, self.now + 1)
        self.change(target, Circuit("open", 0, until, 0, opened, 0, reason, by_evidence=by_evidence))

    def close(self, target: str) -> None:
        """The next share of the ramp, or all."""
        rule, before = self.rule(target), self.circuit(target)
        begins = before.state == "half_open"
        shares = [share for share in rule.ramp if share > before.share]
        if shares:
            until = self.now + rule.ramp_step_ms
            reason = "ramp_begins" if begins else "ramp_step"
            self.change(target, Circuit("ramping", 0, until, shares[0], before.opened, 0, reason), keeps=not begins)
        else:
            reason = "probes_succeeded" if begins else "ramp_done"
            self.change(target, Circuit("closed", 0, 0, 1000, before.opened, 0, reason), keeps=not begins)

    # ---- reports

    def report(self, who: str, target: str, counts: Counts, retry: int | None, shut: int = 0) -> None:
        counts = {name: count for name, count in counts.items() if count}
        overload = counts.get("overload", 0) > 0
        if self.circuit(target).state == "open" and overload and retry is not None:
            self.wish(target, retry)
        trips: list[tuple[str, str, int]] = []
        for name in self.way(target)[::-1]:
            told = counts if name == target else {key: n for key, n in counts.items() if key != "auth"}
            claim = "" if not 0 < self.rule(name).consecutive <= shut else "here" if name == target else "below"
            if not told and not claim:
                continue
            if self.circuit(name).state == "disabled":
                continue
            log = self.note(name, who, told, told_off=overload and retry is not None and name == target, claim=claim)
            if name == target and overload and retry is not None:
                asked = self.now + min(retry, self.rule(name).max_retry_after_ms)
                log.retry_until = max(log.retry_until, asked)
            if self.circuit(name).state in {"closed", "ramping"}:
                reason = self.verdict(name, is_named=name == target)
                if reason and (name == target or self.is_general(name, reason, [trip[0] for trip in trips])):
                    trips.append((name, reason, log.retry_until))
        for trip in trips:
            self.open(*trip)
        self.settle()

    def wish(self, target: str, retry: int) -> None:
        rule, circuit = self.rule(target), self.circuit(target)
        until = min(self.now + min(retry, rule.max_retry_after_ms), circuit.since + rule.max_retry_after_ms)
        if until > max(circuit.until, self.wishes.get(target, 0)):
            self.wishes[target] = until

    def recent(self, target: str) -> list[Row]:
        log = self.logs.get(target)
        length = max(1, self.rule(target).window_ms // 10)
        return [row for row in log.rows if row.at // length > self.now // length - 10] if log else []

    def note(self, name: str, who: str, counts: dict[str, int], *, told_off: bool, claim: str) -> Log:
        if not self.recent(name):  # an empty window has no streak; what was asked for stays until it is replaced
            log = self.logs.setdefault(name, Log())
            log.streak_of = {}
        log = self.logs[name]
        self.heard.setdefault(name, []).append((self.now, who))
        log.rows.append(Row(self.now, who, counts, told_off, claim))
        if counts.get("ok") or counts.get("slow"):
            log.streak_of = {}
        elif bad(counts):
            log.streak_of[who] = log.streak_of.get(who, 0) + bad(counts)
        return log

    def stopped(self, name: str) -> set[str]:
        """Who has said that it has stopped calling this target, without a success since, or one below it, without any
        success."""
        found: dict[str, set[str]] = {"here": set(), "below": set()}
        well: set[str] = set()
        for row in self.recent(name):
            if row.counts.get("ok") or row.counts.get("slow"):
                found["here"].discard(row.who)
                well.add(row.who)
            if row.claim:
                found[row.claim].add(row.who)
        return found["here"] | (found["below"] - well)

    def verdict(self, name: str, *, is_named: bool) -> str:
        """Why it opens, or nothing."""
        rule, rows, share = self.rule(name), self.recent(name), self.circuit(name).share
        each = {who: added([row.counts for row in rows if row.who == who]) for who in {row.who for row in rows}}
        stopped = self.stopped(name)
        active = {who for who, sums in each.items() if made(sums) or sums.get("auth", 0)} | stopped
        failing = {who for who, sums in each.items() if self.reaches(bad(sums), sums, rule.failure_permille)}
        bad_ones = failing | stopped
        fine = {who for who in active - bad_ones if not self.is_out(each[who])}
        alone: set[str] = set()
        known = max(len(active), self.known(name))
        if self.quorum(rule, len(active), known) > 1:
            alone = bad_ones if len(bad_ones) == 1 and len(fine) > 1 else alone
            alone = fine if len(fine) == 1 and len(bad_ones) > 1 else alone
        sums = added([each[who] for who in each if who not in alone])
        quorum = self.quorum(rule, len(active - alone), known)
        minimum = self.scaled(rule.minimum_calls, share)
        told = {row.who for row in rows if row.told}
        slowed = {who for who, own in each.items() if self.reaches(own.get("slow", 0), own, rule.slow_permille)}
        out = {who for who, own in each.items() if self.is_out(own)}
        if is_named and told - alone and len(told) >= quorum:
            return "overload"
        enough = made(sums) >= minimum
        company = active - alone if quorum > 1 else set()
        rest = self.rest(each, company, alone, bad)
        is_bad = all(self.reaches(bad(some), some, rule.failure_permille) for some in (sums, rest))
        if len(failing - alone) >= quorum and enough and is_bad:
            return "failure_rate"
        row = self.logs[name].streak_of
        streak = sum(row.values()) - (max(row.values(), default=0) if len(company) >= 3 else 0)
        if rule.consecutive and streak >= self.scaled(rule.consecutive, share) and len(row) >= quorum:
            return "consecutive"
        off, there, one = len(stopped - alone), len(active - alone), int(len(company) >= 3)
        most_are_off = off > one and (off - one) * 1000 >= rule.failure_permille * (there - one)
        if rule.consecutive and off >= quorum and most_are_off:
            return "consecutive"
        rest = self.rest(each, company, alone, lambda own: own.get("slow", 0))
        is_slow = all(self.reaches(some.get("slow", 0), some, rule.slow_permille) for some in (sums, rest))
        if len(slowed) >= quorum and enough and is_slow:
            return "slow_rate"
        is_shut = sums.get("auth", 0) >= rule.auth_failures > 0 and not made(sums) - bad(sums)
        return "auth" if is_named and "/" in name and len(out) >= quorum and is_shut else ""

    @staticmethod
    def rest(
        each: Mapping[str, Counts], company: set[str], alone: set[str], of: Callable[[Counts], int]
    ) -> dict[str, int]:
        """All but who is left out; among three or more also but the one with most of it."""
        left = [who for who in each if who not in alone]
        if len(company) >= 3:
            left.remove(max(left, key=lambda who: of(each[who])))
        return added([each[who] for who in left])

    @staticmethod
    def is_out(sums: Counts) -> bool:
        return sums.get("auth", 0) > 0 and made(sums) == bad(sums)

    @staticmethod
    def reaches(part: int, sums: Counts, permille: int) -> bool:
        return part > 0 and part * 1000 >= permille * made(sums)

    @staticmethod
    def quorum(rule: Rule, active: int, known: int) -> int:
        share = (active * rule.quorum_permille + 999) // 1000
        return max(1, min(max(active, known), max(rule.quorum, share)))

    def known(self, name: str) -> int:
        """Reporters of the last minute, as far as the rule's quorum needs them."""
        last: dict[str, int] = {}
        for at, who in self.heard.get(name, []):
            last.pop(who, None)
            last[who] = at
        newest = list(last.values())[-self.rule(name).quorum :]
        return sum(self.now - at <= MINUTE for at in newest)

    @staticmethod
    def scaled(number: int, share: int) -> int:
        return min(number, max(2, (number * share + 999) // 1000))

    def is_general(self, target: str, reason: str, tripping: list[str]) -> bool:
        """Whether at least two of those below are bad."""
        count = 0
        for name in self.below(target):
            circuit = self.circuit(name)
            sums = added([row.counts for row in self.recent(name)])
            is_bad = self.reaches(bad(sums), sums, self.rule(name).failure_permille)
            if reason == "slow_rate":
                is_bad = self.reaches(sums.get("slow", 0), sums, self.rule(name).slow_permille)
            if reason == "consecutive":
                is_bad = bool(self.recent(name)) and bool(self.logs[name].streak_of or self.stopped(name))
            is_down = circuit.state in {"open", "half_open"} and circuit.by_evidence
            count += is_down or name in tripping or is_bad
        return count > 1

    # ---- probes

    def shut(self, target: str) -> list[str]:
        return [name for name in self.way(target) if self.circuit(name).share == 0]

    def may_probe(self, target: str) -> bool:
        names = self.shut(target)
        return bool(names) and all(
            self.circuit(name).state == "half_open" and self.out(name) < self.rule(name).probes for name in names
        )

    def out(self, target: str) -> int:
        return sum(target in lease.covers for lease in self.leases.values())

    def lend(self, key: str, who: str, target: str) -> None:
        names = self.shut(target)
        ends = self.now + min(self.rule(name).probe_ttl_ms for name in names)
        self.leases[key] = Lease(who, ends, {name: self.circuit(name).generation for name in names})

    def probed(self, key: str, outcome: str, retry: int | None) -> None:
        lease = self.leases.pop(key, None)
        if lease is None or outcome not in {"ok", "slow", *FAULTS}:
            return
        counted = [name for name, number in lease.covers.items() if self.is_current(name, number)]
        for name in counted:
            circuit, rule = self.circuit(name), self.rule(name)
            if outcome in FAULTS:
                asked = 0 if retry is None else self.now + min(retry, rule.max_retry_after_ms)
                self.open(name, "probe_failed", asked)
            elif circuit.successes + 1 >= rule.successes:
                self.close(name)
            else:
                self.circuits[name] = replace(circuit, successes=circuit.successes + 1)
        self.settle()

    def is_current(self, name: str, generation: int) -> bool:
        circuit = self.circuit(name)
        return circuit.state == "half_open" and circuit.generation == generation

    # ---- operators and time

    def order(self, target: str, to: str, for_ms: int | None) -> None:
        before = self.circuit(target)
        if to == "reset":
            self.change(target, Circuit(reason="reset"))
        elif to == "release":
            if before.state not in ORDERS.values():
                return
            self.end_order(target, "release")
        elif to == "note":
            self.change(target, before if target in self.circuits else Circuit(reason="annotate"), keeps=True)
        else:
            share = 0 if to == "open" else 1000
            until = 0 if for_ms is None else self.now + for_ms
            self.change(target, Circuit(ORDERS[to], 0, until, share, 0, 0, REASONS[to]))
        self.settle()

    def end_order(self, target: str, reason: str) -> None:
        is_open = self.circuit(target).state == "forced_open"
        state, until, share = ("open", self.now, 0) if is_open else ("closed", 0, 1000)
        self.change(target, Circuit(state, 0, until, share, 0, 0, reason))

    def advance(self, ms: int) -> None:
        to = self.now + ms
        while (first := self.first_end()) is not None and first[0] <= to:
            self.now = max(self.now, first[0])
            self.end(*first)
            self.settle()
        self.now = to

    def first_end(self) -> tuple[int, str, str] | None:
        ends = [(circuit.until, "circuit", name) for name, circuit in self.circuits.items() if circuit.until]
        ends += [(lease.ends, "lease", key) for key, lease in self.leases.items()]
        return min(ends, default=None)

    def end(self, _at: int, kind: str, name: str) -> None:
        if kind == "lease":
            del self.leases[name]
            return
        circuit = self.circuit(name)
        if circuit.state == "open":
            if self.wishes.get(name, 0) > self.now:
                self.later(name)
            else:
                self.change(name, replace(circuit, state="half_open", until=0, reason="time_over"))
        elif circuit.state == "ramping":
            self.close(name)
        else:
            self.end_order(name, "order_over")

    def later(self, name: str) -> None:
        self.change(name, replace(self.circuit(name), until=self.wishes.pop(name), reason="later_deadline"))

    def settle(self) -> None:
        """What is due at this very moment."""
        for name, until in list(self.wishes.items()):
            if until >= self.circuit(name).until + AT_ONCE:
                self.later(name)
        while (first := self.first_end()) is not None and first[0] <= self.now:
            self.end(*first)

    def take_over(self) -> None:
        """Another owner: what was reported is gone."""
        self.logs.clear()
        self.heard.clear()
        self.wishes.clear()

    def shown(self) -> dict[str, tuple[Any, ...]]:
        return {
            name: (c.state, c.until, c.share, c.opened, c.successes, c.reason, c.generation)
            for name, c in self.circuits.items()
        }
