"""What every service can be told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from bursar.kernel.settings import ServiceSettings, told
from bursar_breaker.settings import BreakerSettings
from bursar_gpu_manager.settings import GpuSettings
from bursar_limiter.settings import LimiterSettings
from bursar_monitor.node import NodeSettings
from bursar_monitor.settings import MonitorSettings
from bursar_scheduler.settings import SchedulerSettings


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


@pytest.mark.parametrize(
    "settings", [BreakerSettings, GpuSettings, LimiterSettings, MonitorSettings, SchedulerSettings, NodeSettings]
)
def test_help_names_and_explains_every_variable(
    settings: type[BaseSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0, without anything being connected; none stands there without its meaning."""
    with pytest.raises(SystemExit) as ended:
        told(settings, "python -m x", ["--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out.splitlines()
    assert page[0] == "usage: python -m x [--help]"
    for name, field in settings.model_fields.items():
        if field.annotation is not type(None):
            place = next(n for n, line in enumerate(page) if line.startswith(f"  BURSAR_{name.upper()}  "))
            assert page[place + 1].startswith("      "), name


def test_what_is_told_wrong_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and the variable's name: for a value that cannot be, and for an argument, of which there are none."""
    assert told(ServiceSettings, "x", []).shard == 0
    with pytest.raises(SystemExit, match="2"):
        told(ServiceSettings, "x", ["--shard=3"])
    monkeypatch.setenv("BURSAR_SHARD", "16")
    monkeypatch.setenv("BURSAR_TAKEOVER_MS", "soon")
    with pytest.raises(SystemExit, match="2"):
        told(ServiceSettings, "x", [])
    first, *others = capsys.readouterr().err.splitlines()
    assert "unknown argument '--shard=3'" in first
    assert [line.split()[1] for line in others] == ["BURSAR_SHARD:", "BURSAR_TAKEOVER_MS:"]
