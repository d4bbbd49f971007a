"""What has happened between the provider and a budget, as it stands in the journal (see `events`).

| kind | then | means |
|---|---|---|
| ``z`` | budget, reporter, until, paid, strikes, list of dimensions | a 429; ``paid`` by the reporter |
| ``w`` | budget, operator, note | thawed: the freezes of the budget end now |
| ``k`` | budget, dimension, window, limit | learned: this limit holds, at most the configured one |
| ``f`` | budget, dimension, window, amount | foreign: so much was used by others, and counts |
| ``p`` | budget, dimension, window, pace | tuned: the pace, in thousandths of the configured one |
| ``h`` | budget, incarnation, revision, share, until | a breaker lets so much go, in thousandths (until 0: over) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bursar.contracts.limiter import DIMENSIONS

FROZEN: Final = "z"
THAWED: Final = "w"
LEARNED: Final = "k"
FOREIGN: Final = "f"
TUNED: Final = "p"
SHARED: Final = "h"


def _frozen(budget: str, who: str, until: int, paid: int, strikes: int, indices: list[int]) -> str:
    what = ", ".join(DIMENSIONS[index] for index in indices)
    return f"{who} met a 429: {what} of {budget} frozen until {until} ms"


def _thawed(budget: str, who: str, note: str) -> str:
    return f"{who} ended the freeze of {budget}: {note or 'no reason given'}"


def _learned(budget: str, index: int, window: int, limit: int) -> str:
    return f"the provider tells a limit of {limit} {DIMENSIONS[index]} in {window} ms for {budget}"


def _foreign(budget: str, index: int, window: int, amount: int) -> str:
    return f"others have used {amount} {DIMENSIONS[index]} of {budget}"


def _tuned(budget: str, index: int, window: int, pace: int) -> str:
    return f"the pace of {DIMENSIONS[index]} of {budget} in {window} ms is {pace} thousandths of the configured one"


def _shared(budget: str, incarnation: int, revision: int, permille: int, until: int) -> str:
    if not until:
        return f"the pace of {budget} is its own again"
    return (
        f"the breaker lets {permille / 10:g} % go under {budget} until {until} ms (revision {incarnation}.{revision})"
    )


WORDS: Final[Mapping[str, Callable[..., str]]] = {
    FROZEN: _frozen,
    THAWED: _thawed,
    LEARNED: _learned,
    FOREIGN: _foreign,
    TUNED: _tuned,
    SHARED: _shared,
}
