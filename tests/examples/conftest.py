"""One installation for all examples."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.installation import Installation, running


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running(tmp_path_factory.mktemp("examples") / "home") as started:
        yield started
