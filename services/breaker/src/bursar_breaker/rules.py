"""Which rule holds for a target, and the arithmetic of open times.

A rule holds for its target and everything below it, unless there is a rule for something closer. The rule without a
target holds for all others; there always is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bursar.contracts.breaker import Rule, path_of

DEFAULT: Final = Rule()


class Rules:
    """A set of rules, looked up by target."""

    __slots__ = ("_by_target", "default")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._by_target = {rule.target: rule for rule in rules if rule.target is not None}
        self.default = next((rule for rule in rules if rule.target is None), DEFAULT)

    def of(self, target: str) -> Rule:
        """The rule for a target: that of the longest prefix that has one."""
        if self._by_target:
            for name in reversed(path_of(target)):
                rule = self._by_target.get(name)
                if rule is not None:
                    return rule
        return self.default

    @property
    def all(self) -> tuple[Rule, ...]:
        return (self.default, *self._by_target.values())

    @property
    def longest_probe_ms(self) -> int:
        return max(rule.probe_ttl_ms for rule in self.all)

    def dump(self) -> list[dict[str, Any]]:
        return [rule.model_dump(mode="json", exclude_defaults=True) for rule in self.all]


def load_rules(value: Iterable[dict[str, Any]]) -> Rules:
    return Rules([Rule.model_validate(dict(fields)) for fields in value])


def fault_of(rules: Iterable[Rule]) -> str | None:
    """What is wrong with a set of rules, as a sentence; None when it can be used."""
    seen: set[str | None] = set()
    for rule in rules:
        where = "the default" if rule.target is None else rule.target
        if rule.target in seen:
            return f"{where}: there are two rules"
        seen.add(rule.target)
        if rule.max_open_ms < rule.open_ms:
            return f"{where}: the longest open time is shorter than the first"
    return None


def open_ms(rule: Rule, opened: int) -> int:
    """How long a circuit stays open that opens for the ``opened``-th time in a row (1: the first)."""
    time, limit = rule.open_ms, rule.max_open_ms
    for _ in range(opened - 1):
        if time >= limit or rule.growth_permille == 1000:
            break
        time = time * rule.growth_permille // 1000
    return min(time, limit)


def asked_for(rule: Rule, now: int, retry_after_ms: int | None) -> int:
    """Until when an overloaded target is left alone that has asked for so long; 0 when it has not."""
    return 0 if retry_after_ms is None else now + min(retry_after_ms, rule.max_retry_after_ms)
