"""What a decider raises is told in the log, and does not fill it."""

from __future__ import annotations

import logging

import pytest

from bursar.kernel.effects import Fault
from bursar.kernel.faults import FaultLog


def _told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, object]]:
    """Of each line the count, and the error that it shows."""
    return [(record.__dict__["count"], record.exc_info and record.exc_info[1]) for record in caplog.records]


def test_failing_decisions_are_told_once_a_second_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The first at once; what fails within the second is told when it is over, with the first error of these."""
    caplog.set_level(logging.ERROR, "bursar.kernel")
    errors = [ValueError(str(number)) for number in range(1_001)]
    failed = [Fault(error, "ann", f"s-{number}") for number, error in enumerate(errors)]
    faults = FaultLog()
    faults.add(failed[:2], 5_000)
    assert _told(caplog) == [(2, errors[0])]
    for number in range(2, 1_001):
        faults.add([failed[number]], 5_000 + number % 1_000)
    assert len(_told(caplog)) == 1
    faults.look(6_000)
    assert _told(caplog) == [(2, errors[0]), (999, errors[2])]
    assert [(vars(record)["principal"], vars(record)["id"]) for record in caplog.records] == [
        ("ann", "s-0"), ("ann", "s-2"),
    ]  # fmt: skip


def test_nothing_is_told_when_nothing_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Also not again what was told; a clock may begin at zero."""
    caplog.set_level(logging.ERROR, "bursar.kernel")
    faults = FaultLog()
    faults.look(0)
    faults.add([Fault(ValueError("x"), "ann", "")], 0)
    faults.look(10_000)
    assert len(_told(caplog)) == 1
