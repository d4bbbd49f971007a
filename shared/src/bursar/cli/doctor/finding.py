"""What an examination says of one thing: what was found, what it should be, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

FINE: Final = "ok"
FAULT: Final = "fault"


class Finding(NamedTuple):
    """``check``: the rule's name, which never changes. ``subject``: the server, stream, service or file that it is
    about. ``mend``: what to do; empty when nothing is to be done."""

    check: str
    subject: str
    level: str
    found: str
    wanted: str
    mend: str


def judged(check: str, subject: str, is_fine: bool, found: object, wanted: object, mend: str) -> Finding:
    """A finding of which only a fault says how to mend it."""
    level = FINE if is_fine else FAULT
    return Finding(check, subject, level, str(found), str(wanted), "" if is_fine else mend)


def faults(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != FINE]


def table(findings: list[Finding], echo: Callable[[str], None]) -> None:
    """Three lines a finding: what and where, found beside wanted, how to mend it."""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        echo(f"{finding.level:<5}  {finding.check:<{width}}  {finding.subject}")
        echo(f"{'':<{width + 7}}  found   {finding.found}")
        echo(f"{'':<{width + 7}}  wanted  {finding.wanted}")
        if finding.mend:
            echo(f"{'':<{width + 7}}  mend    {finding.mend}")
