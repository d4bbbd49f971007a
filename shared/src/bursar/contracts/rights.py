"""Who may use what: rights of principals to budgets, models, GPUs and targets. One set of rules for all services.

A rule names principals and, for each kind of thing that it speaks of, what they may use. A principal may use a thing if
one of its rules that speak of that kind names it. Of a kind that none of its rules speaks of it may use everything, or
nothing where the set is ``closed``. Nobody is restricted before there is a set.

A pattern is a name, which stands for that and for everything below it (``team-a`` for ``team-a/search``); or the
beginning of names, ending in ``*``; or ``*``. Names are those of the services: budgets of the limiter, models of the
GPU manager's cache and of tasks, GPUs as ``<host>/<uuid>``, targets of the breaker.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Request

Principals = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,63}\*?)$", max_length=65)]
Pattern = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,255}\*?)$", max_length=257)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]


class RightsRule(Message):
    """What these principals may use. None: the rule does not speak of that kind; an empty list: none of it."""

    who: Annotated[tuple[Principals, ...], Field(min_length=1, max_length=256)]
    budgets: Patterns | None = None
    models: Patterns | None = None
    gpus: Patterns | None = None
    targets: Patterns | None = None


class SetRights(Request):
    """Administration: replace the rights of all principals. What was granted before stays until it is to be renewed."""

    rules: Annotated[tuple[RightsRule, ...], Field(max_length=1_024)]
    closed: bool = False


class RightsSet(Message):
    """``rules``: so many hold now. ``changed``: whether others held before."""

    ok: Literal[True] = True
    rules: int
    closed: bool
    changed: bool
    fence: str
