"""One site for all tests of containers; each leaves it as it found it. How many cases ran stands at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.terminal import TerminalReporter

from tests.containers.site import Site, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything of compose.yaml, healthy."""
    with running_site(tmp_path_factory.mktemp("bundle")) as site:
        yield site


@pytest.fixture
def whole(site: Site) -> Iterator[Site]:
    """The site, whose every container is running and healthy again after the test, or the test has failed."""
    yield site
    for box in site.boxes.values():
        if box.name not in {"setup", "streams"} and box.status != "running":
            box.start()
    site.becomes_healthy()


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """How many cases ran, as one line."""
    ran = {key: len(terminalreporter.stats.get(key, [])) for key in ("passed", "failed", "error")}
    terminalreporter.write_line(
        f"containers: {sum(ran.values())} cases ran, " + ", ".join(f"{count} {key}" for key, count in ran.items())
    )
