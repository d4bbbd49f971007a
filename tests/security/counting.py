"""How many cases ran: a test that tries a table of them says so (`record_property("cases", n)`), any other is one."""

from __future__ import annotations

from _pytest.reports import TestReport
from _pytest.terminal import TerminalReporter


def cases_in(report: TestReport) -> int:
    return sum(int(str(value)) for name, value in report.user_properties if name == "cases") or 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """As one line, which `make bench-deploy` reads."""
    stats = terminalreporter.stats
    ran = {kind: sum(map(cases_in, stats.get(kind, ()))) for kind in ("passed", "failed", "error")}
    told = ", ".join(f"{count} {kind}" for kind, count in ran.items())
    terminalreporter.write_line(f"security: {sum(ran.values())} cases ran: {told}")
