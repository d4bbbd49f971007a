"""What has happened, as it stands in the journal: short tuples of msgpack values, the kind first, the time second.

| kind | then | means |
|---|---|---|
| ``g`` | budget, reservation, principal, expires, seven amounts, other objects | granted |
| ``s`` | reservation, seven amounts really used | settled |
| ``c`` | reservation | cancelled: the call was never sent |
| ``t`` | reservation | timed out: counts as used in full |
| ``l`` | reservation, seven amounts really used | usage reported after the time-out |
| ``b`` | digest of the file or "", list of budgets as maps | the set of budgets replaced |
| ``x`` | list of [budget, until] | acknowledged entries were lost: limits count as used, nothing granted until then |
| ``a`` | as ``g`` | a reservation that was lost, adopted from its holder |
| ``u`` | reservation, seven amounts used so far | usage reported while the call goes on |
| ``rights`` | by whom, whether closed, rules | other rights hold (`bursar.kernel.rights`) |
| ``q`` | by whom, budget as a map | one budget has other rules, or is new |
"""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import DIMENSIONS
from bursar.kernel.rights import RIGHTS
from bursar.kernel.rights import in_words as in_words_of_rights

GRANTED = "g"
SETTLED = "s"
CANCELLED = "c"
TIMED_OUT = "t"
LATE = "l"
BUDGETS = "b"
LOST = "x"
ADOPTED = "a"
PROGRESS = "u"
ADJUSTED = "q"


def in_words(event: tuple[Any, ...]) -> str:
    """One line for an operator."""
    kind, at = event[0], event[1]
    return f"{at} ms: {WORDS[kind](*event[2:])}"


def _amounts(values: tuple[Any, ...]) -> str:
    """Amounts by name, and after them the names of other objects."""
    named = [f"{name} {value}" for name, value in zip(DIMENSIONS, values, strict=False) if value]
    return ", ".join([*named, *(f"also from {name}" for name in values[len(DIMENSIONS) :])]) or "nothing"


def _granted(budget: str, reservation: str, principal: str, expires: int, *amounts: Any) -> str:
    return f"granted {reservation} to {principal} from {budget} until {expires} ms: {_amounts(amounts)}"


def _adopted(budget: str, reservation: str, principal: str, expires: int, *amounts: Any) -> str:
    return f"adopted {reservation} of {principal} in {budget} until {expires} ms: {_amounts(amounts)}"


def _settled(reservation: str, *amounts: int) -> str:
    return f"settled {reservation}, used: {_amounts(amounts)}"


def _progress(reservation: str, *amounts: int) -> str:
    return f"progress of {reservation}, used so far: {_amounts(amounts)}"


def _adjusted(who: str, budget: dict[str, Any]) -> str:
    return f"{who} adjusted budget {budget['name']}"


def _late(reservation: str, *amounts: int) -> str:
    return f"late report on {reservation}, used: {_amounts(amounts)}"


def _cancelled(reservation: str) -> str:
    return f"cancelled {reservation}, all refunded"


def _timed_out(reservation: str) -> str:
    return f"timed out {reservation}, counts as used"


def _budgets(source: str, budgets: list[dict[str, Any]]) -> str:
    origin = f" from file {source}" if source else ""
    return f"budgets replaced{origin}: {', '.join(budget['name'] for budget in budgets) or 'none'}"


def _lost(budgets: list[list[Any]]) -> str:
    known = ", ".join(f"{name} until {until} ms" for name, until in budgets)
    return f"entries lost, limits count as used: {known or 'of every budget that is offered from now on'}"


WORDS: dict[str, Any] = {
    GRANTED: _granted,
    SETTLED: _settled,
    CANCELLED: _cancelled,
    TIMED_OUT: _timed_out,
    LATE: _late,
    BUDGETS: _budgets,
    LOST: _lost,
    ADOPTED: _adopted,
    PROGRESS: _progress,
    ADJUSTED: _adjusted,
    RIGHTS: in_words_of_rights,
}
