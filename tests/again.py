"""The integration ring on shared machines: a test that fails is run once more, and that is never silent.

Real servers, signals and disks meet whatever else a machine does, so one bound on a time may be missed for no fault of
Bursar's. A second run tells the two apart; but a test that needed it is named at the end, and more than `MOST` of them
fail the ring: then it is not the machine. Only `make test-integration` does so (``--reruns 1``); a plugin, since a
`conftest.py` hears of the tests below it alone, and this ring's tests lie in many folders.
"""

from __future__ import annotations

import pytest

MOST = 3

_again: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if str(report.outcome) == "rerun":  # an outcome of pytest-rerunfailures
        _again[report.nodeid] = report.longreprtext


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and len(_again) > MOST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for nodeid, text in _again.items():
        terminalreporter.section(f"had to be run again: {nodeid}", red=True)
        terminalreporter.line(text)
    if len(_again) > MOST:
        terminalreporter.line(f"{len(_again)} tests had to be run again; at most {MOST} may.", red=True)
