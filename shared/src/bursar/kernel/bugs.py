"""Seeded bugs: known ways to break the kernel, off unless a test switches one on.

A test suite is trusted only as far as it fails when the code is wrong. Each name below stands for one plausible
mistake, made at the place where somebody would make it; a named test switches it on and must see the checkers object.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NAMES: Final = frozenset(
    {
        "tail_moves_writers_head",
        "reply_before_ack",
        "answers_missing_from_snapshot",
        "epoch_reused",
        "snapshot_sequence_off_by_one",
        "regression_taken_for_fencing",
        "fencing_taken_for_regression",
        "unknown_append_counted_twice",
        "refusal_changes_state",
        "code_10164_is_no_conflict",
        "manifest_before_chunks",
        "sweep_takes_unfinished",
        "sweep_takes_bases_in_use",
    }
)

_declared: set[str] = set()
_active: set[str] = set()


def declare(*names: str) -> None:
    """Make names known that are not the kernel's: a service's own seeded bugs, ``<service>_<mistake>``."""
    _declared.update(names)


def seeded(name: str) -> bool:
    """Whether a test has switched this bug on."""
    return bool(_active) and name in _active


@contextmanager
def switched_on(name: str) -> Iterator[None]:
    """Switch one bug on for the length of a test."""
    if name not in NAMES and name not in _declared:
        raise ValueError(f"no such seeded bug: {name}")
    _active.add(name)
    try:
        yield
    finally:
        _active.discard(name)
