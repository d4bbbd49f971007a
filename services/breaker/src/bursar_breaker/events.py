"""What has happened, as it stands in the journal: short tuples of msgpack values, the kind first, the time second.

Changes of a circuit have the registry's next revision third and the target fourth.

| kind | then | means |
|---|---|---|
| ``o`` | revision, target, until, cause, opened, evidence | opened; the evidence as in `bursar_breaker.judging` |
| ``l`` | revision, target, until | stays open for longer: a later deadline was asked for |
| ``h`` | revision, target | half-open: its open time is over |
| ``r`` | revision, target, cause, share, until | a share of the calls may go, in thousandths, until then |
| ``c`` | revision, target, cause | closed: enough probes succeeded, or the ramp is done |
| ``f`` | revision, target, cause, principal, note, until | an operator's order, or its end (no principal) |
| ``y`` | revision, target, until | open again, since entries were lost |
| ``p`` | permit, principal, expires, [[target, generation], ...] | a probe permit was given |
| ``d`` | permit, outcome, [targets it counts for] | a probe was reported; "stale" counts for none |
| ``e`` | permit | a probe permit ran out |
| ``b`` | digest of the file or "", [rules, [[group, members], ...]], quiet until | rules and groups were replaced |
| ``rights`` | by whom, whether closed, rules | other rights hold (`bursar.kernel.rights`) |
| ``x`` | quiet until | acknowledged entries were lost: no probes before |
"""

from __future__ import annotations

from typing import Any

from bursar.kernel.rights import RIGHTS
from bursar.kernel.rights import in_words as in_words_of_rights

OPENED = "o"
LATER = "l"
HALF_OPENED = "h"
RAMPED = "r"
CLOSED = "c"
FORCED = "f"
KEPT_OPEN = "y"
LENT = "p"
PROBED = "d"
EXPIRED = "e"
RULES = "b"
LOST = "x"

CHANGES = frozenset({OPENED, LATER, HALF_OPENED, RAMPED, CLOSED, FORCED, KEPT_OPEN})
"""Kinds of events that change a circuit, each with a revision of its own."""


def in_words(event: tuple[Any, ...]) -> str:
    """One line for an operator."""
    kind, at = event[0], event[1]
    return f"{at} ms: {_WORDS[kind](*event[2:])}"


def _opened(revision: int, target: str, until: int, cause: str, opened: int, evidence: dict[str, Any]) -> str:
    seen = evidence["counts"]
    told = f"{seen['failed']} of {seen['calls']} calls failed, {seen['slow']} slow; "
    told += f"{seen['voices']} of {seen['reporters']} reporters see it"
    return f"r{revision} {target} opened until {until} ms by {cause} ({told}), time {opened} in a row"


def _later(revision: int, target: str, until: int) -> str:
    return f"r{revision} {target} stays open until {until} ms, as it has asked for"


def _half_opened(revision: int, target: str) -> str:
    return f"r{revision} {target} is half-open"


def _ramped(revision: int, target: str, cause: str, share: int, until: int) -> str:
    return f"r{revision} {target}: {share / 10:g}% of the calls until {until} ms ({cause})"


def _closed(revision: int, target: str, cause: str) -> str:
    return f"r{revision} {target} closed ({cause})"


def _forced(revision: int, target: str, cause: str, principal: str, note: str, until: int) -> str:
    who = f" by {principal}" if principal else ""
    end = f" until {until} ms" if until else ""
    return f"r{revision} {target}: {cause}{who}{end}{': ' + note if note else ''}"


def _kept_open(revision: int, target: str, until: int) -> str:
    return f"r{revision} {target} open until {until} ms, since entries were lost"


def _lent(key: str, principal: str, expires: int, circuits: list[list[Any]]) -> str:
    names = ", ".join(f"{target} (g{generation})" for target, generation in circuits)
    return f"probe {key} to {principal} until {expires} ms for {names}"


def _probed(key: str, outcome: str, targets: list[str]) -> str:
    return f"probe {key} ended {outcome}, counts for {', '.join(targets) or 'nothing'}"


def _expired(key: str) -> str:
    return f"probe {key} ran out"


def _rules(source: str, rules: Any, _quiet_until: int) -> str:
    origin = f" from file {source}" if source else ""
    names = [rule.get("target", "default") for rule in rules[0]] + [f"group {name}" for name, _ in rules[1]]
    return f"rules replaced{origin}: {', '.join(names)}"


def _lost(quiet_until: int) -> str:
    return f"entries lost: no probes until {quiet_until} ms"


_WORDS: dict[str, Any] = {
    RIGHTS: in_words_of_rights,
    OPENED: _opened,
    LATER: _later,
    HALF_OPENED: _half_opened,
    RAMPED: _ramped,
    CLOSED: _closed,
    FORCED: _forced,
    KEPT_OPEN: _kept_open,
    LENT: _lent,
    PROBED: _probed,
    EXPIRED: _expired,
    RULES: _rules,
    LOST: _lost,
}
