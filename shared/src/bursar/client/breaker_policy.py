"""What the registry's rules say to clients: groups, what to do around a target, and what to use instead of it.

It is fetched whole, once for each edition that a pulse or a snapshot names; until then, and without a registry, the
defaults hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from bursar.client.errors import BadReply
from bursar.client.fallback import PRIMARY, Chain, Step
from bursar.contracts.breaker import Fallback, Guard, path_of, way_of

_NO_GUARD: Final = Guard()


class Policy:
    """One edition of the rules."""

    __slots__ = ("_groups", "_rules", "edition")

    def __init__(
        self,
        edition: int = -1,
        rules: Mapping[str | None, tuple[Guard, tuple[Fallback, ...], int]] | None = None,
        groups: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.edition = edition
        self._rules = dict(rules or {})
        self._groups = dict(groups or {})

    def way(self, target: str) -> tuple[str, ...]:
        """All circuits that stand in the way of a call to the target, those of groups first."""
        return way_of(target, self._groups) if self._groups else path_of(target)

    def rule_for(self, target: str) -> str | None:
        """The target whose rule holds for this one; None: the rule for all others."""
        for name in reversed(path_of(target)):
            if name in self._rules:
                return name
        return None

    def guard(self, rule: str | None) -> Guard:
        """What to do around what this rule holds for."""
        return self._rules[rule][0] if rule in self._rules else _NO_GUARD

    def consecutive(self, target: str) -> int | None:
        """So many failures in a row open the target's circuit; 0: none do. None: no rule is known."""
        rule = self.rule_for(target)
        return self._rules[rule][2] if rule in self._rules else None

    def chain(self, target: str) -> Chain:
        """The target, and what to use instead of it."""
        rule = self.rule_for(target)
        fallbacks = self._rules[rule][1] if rule in self._rules else ()
        steps = (Step(link.kind, link.to, link.answer, link.max_age_ms) for link in fallbacks if link.to != target)
        return Chain(target, (Step(PRIMARY, target), *steps))


def read(body: Mapping[str, Any]) -> Policy | None:
    """What an answer to `Settings` says; None when nothing is new. Raises `BadReply` when it cannot be read. Fields
    that this version does not know are left out: a newer registry may say more."""
    try:
        if body["same"]:
            return None
        edition = body["edition"]
        rules = {row["target"]: _rule(row) for row in body["rules"]}
        groups = {str(row["name"]): tuple(map(str, row["members"])) for row in body["groups"]}
    except (LookupError, TypeError, ValueError, AttributeError, ValidationError):
        raise BadReply("the breaker's settings cannot be read") from None
    if type(edition) is not int:
        raise BadReply("the breaker's settings cannot be read")
    return Policy(edition, rules, groups)


def _rule(row: Mapping[str, Any]) -> tuple[Guard, tuple[Fallback, ...], int]:
    return _guard(row["guard"]), tuple(map(_link, row["fallbacks"])), int(row.get("consecutive", 0))


def _guard(told: Mapping[str, Any]) -> Guard:
    return Guard.model_validate({name: told[name] for name in Guard.model_fields if name in told})


def _link(told: Mapping[str, Any]) -> Fallback:
    return Fallback.model_validate({name: told[name] for name in Fallback.model_fields if name in told})
