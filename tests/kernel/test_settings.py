"""What every service can be told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bursar.kernel.settings import ServiceSettings


def test_an_instance_has_one_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number from 0 to 15, from the environment or as an argument."""
    assert ServiceSettings().shard == 0
    monkeypatch.setenv("BURSAR_SHARD", "15")
    assert ServiceSettings().shard == 15
    for wrong in (-1, 16):
        with pytest.raises(ValidationError):
            ServiceSettings(shard=wrong)


def test_a_list_of_shards_is_refused_and_not_served_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to set instead."""
    monkeypatch.setenv("BURSAR_SHARDS", "[0, 1]")
    with pytest.raises(ValidationError, match="BURSAR_SHARD"):
        ServiceSettings()
