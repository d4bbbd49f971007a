"""Which rule holds for a target, which groups it belongs to, and the arithmetic of open times and ramps.

A rule holds for its target and everything below it, unless there is a rule for something closer. The rule without a
target holds for all others; there always is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bursar.contracts.breaker import GROUPS, Group, Rule, group_target, path_of
from bursar.kernel.bugs import seeded
from bursar_breaker.bugs import CAP_IGNORED, GROUP_IGNORED, NO_JITTER

DEFAULT: Final = Rule()
_MASK: Final = 2**63 - 1


class Rules:
    """A set of rules and groups, looked up by target."""

    __slots__ = ("_by_target", "_member_of", "default", "groups")

    def __init__(self, rules: Iterable[Rule] = (), groups: Iterable[Group] = ()) -> None:
        self._by_target = {rule.target: rule for rule in rules if rule.target is not None}
        self.default = next((rule for rule in rules if rule.target is None), DEFAULT)
        self.groups = {group.name: group.members for group in groups}
        self._member_of: dict[str, list[int]] = {}
        for number, members in enumerate(self.groups.values()):
            for member in members:
                self._member_of.setdefault(member, []).append(number)

    def of(self, target: str) -> Rule:
        """The rule for a target: that of the longest prefix that has one."""
        if self._by_target:
            for name in reversed(path_of(target)):
                rule = self._by_target.get(name)
                if rule is not None:
                    return rule
        return self.default

    def way(self, target: str) -> tuple[str, ...]:
        """What `bursar.contracts.breaker.way_of` says, whatever the number of groups."""
        path = path_of(target)
        numbers = sorted({number for name in path for number in self._member_of.get(name, ())})
        if not numbers or seeded(GROUP_IGNORED):
            return path
        names = list(self.groups)
        return (*(group_target(names[number]) for number in numbers), *path)

    def budget_of(self, target: str) -> str | None:
        """The limiter's budget that pays for calls to this very target."""
        rule = self._by_target.get(target)
        return None if rule is None else rule.budget

    def knows(self, target: str) -> bool:
        """Whether there can be a circuit of this name: of groups only those that there are."""
        head, _, name = target.partition("/")
        return head != GROUPS or name in self.groups

    @property
    def all(self) -> tuple[Rule, ...]:
        return (self.default, *self._by_target.values())

    @property
    def longest_probe_ms(self) -> int:
        return max(rule.probe_ttl_ms for rule in self.all)

    def dump(self) -> list[Any]:
        groups = [[name, list(members)] for name, members in self.groups.items()]
        return [[rule.model_dump(mode="json", exclude_defaults=True) for rule in self.all], groups]


def load_rules(value: Any) -> Rules:
    rules, groups = value
    return Rules(
        [Rule.model_validate(_plain(fields), strict=False) for fields in rules],
        [Group(name=name, members=tuple(members)) for name, members in groups],
    )


def _plain(value: Any) -> Any:
    """Maps and tuples as pydantic wants them, whatever msgpack has made of them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def fault_of(rules: Iterable[Rule], groups: Iterable[Group] = ()) -> str | None:
    """What is wrong with a set of rules, as a sentence; None when it can be used."""
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        return "there are two groups of one name"
    for group in groups:
        if any(path_of(member)[0] == GROUPS for member in group.members):
            return f"group {group.name}: a group is no member of a group"
    seen: set[str | None] = set()
    budgets: dict[str, str] = {}
    for rule in rules:
        where = "the default" if rule.target is None else rule.target
        if rule.target in seen:
            return f"{where}: there are two rules"
        seen.add(rule.target)
        fault = _fault(rule, names)
        if fault is not None:
            return f"{where}: {fault}"
        if rule.budget is not None and budgets.setdefault(rule.budget, where) != where:
            return f"{where}: {budgets[rule.budget]} is linked to the budget {rule.budget} already"
    return None


def _fault(rule: Rule, groups: list[str]) -> str | None:
    if rule.max_open_ms < rule.open_ms:
        return "the longest open time is shorter than the first"
    if rule.window_calls and rule.minimum_calls > rule.window_calls:
        return "the window holds fewer calls than the minimum"
    if list(rule.ramp) != sorted(set(rule.ramp)):
        return "the shares of the ramp must grow"
    if rule.budget is not None and rule.target is None:
        return "a budget is linked to one target"
    guard = rule.guard
    if guard.concurrency and not guard.concurrency_least <= guard.concurrency_initial <= guard.concurrency:
        return "the bounds of concurrency must be least <= initial <= concurrency"
    if any(step.to == rule.target and step.to is not None for step in rule.fallbacks):
        return "a target is no fallback of its own"
    if rule.target is not None and path_of(rule.target)[0] == GROUPS and rule.target not in map(group_target, groups):
        return "there is no such group"
    return None


def open_ms(rule: Rule, opened: int, draw: int = 0) -> int:
    """How long a circuit stays open that opens for the ``opened``-th time in a row (1: the first). ``draw``: a random
    number of any size; jitter makes the time longer, at the cap shorter, so that it is never beyond it."""
    time, limit = rule.open_ms, rule.max_open_ms
    for _ in range(opened - 1):
        if (time >= limit and not seeded(CAP_IGNORED)) or rule.growth_permille == 1000:
            break
        time = time * rule.growth_permille // 1000
    if not seeded(CAP_IGNORED):
        time = min(time, limit)
    spread = 0 if seeded(NO_JITTER) else time * rule.jitter_permille // 1000
    jitter = draw % (spread + 1)
    return time + jitter if time + jitter <= limit or seeded(CAP_IGNORED) else max(1, limit - jitter)


def mixed(seed: int, *salt: int) -> int:
    """The next number of the state's generator (SplitMix64 over seed and salt), 63 bits."""
    for value in (*salt, 0x9E3779B97F4A7C15):
        seed = (seed ^ value) & 0xFFFFFFFFFFFFFFFF
        seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        seed = ((seed ^ (seed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        seed ^= seed >> 31
    return seed & _MASK


def asked_for(rule: Rule, now: int, retry_after_ms: int | None) -> int:
    """Until when an overloaded target is left alone that has asked for so long; 0 when it has not."""
    return 0 if retry_after_ms is None else now + min(retry_after_ms, rule.max_retry_after_ms)


def next_share(rule: Rule, share: int) -> int | None:
    """The share of the calls that may go after this one (0: before the first); None when all may."""
    return next((step for step in rule.ramp if step > share), None)


def scaled(number: int, share: int) -> int:
    """How many calls of a rule a ramp has to see, when only this share of them (thousandths) goes: at least two, unless
    the rule itself wants fewer."""
    return min(number, max(2, -(-number * share // 1000)))
