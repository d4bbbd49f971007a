"""Where the services find their rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.bus.identity import Home
from bursar.cli.services import RULES, Installed, child, rules_files


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for rules in RULES.values():
        monkeypatch.delenv(rules.variable, raising=False)


def test_a_chosen_file_goes_before_the_environment_and_that_before_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest says most; without any of them a service has its example."""
    assert rules_files(tmp_path, {}) == {}
    for rules in RULES.values():
        (tmp_path / rules.name).touch()
    assert rules_files(tmp_path, {}) == {service: tmp_path / rules.name for service, rules in RULES.items()}
    monkeypatch.setenv("BURSAR_CIRCUITS", "/env/circuits.toml")
    chosen = {"limiter": Path("/mine/budgets.toml"), "breaker": None}
    assert rules_files(tmp_path, chosen) == {
        "limiter": Path("/mine/budgets.toml"),
        "breaker": Path("/env/circuits.toml"),
        "monitor": tmp_path / "rules.toml",
    }


def test_each_service_is_told_of_its_own_file_only(tmp_path: Path) -> None:
    """By the environment variable that it reads."""
    files = {service: Path(f"/rules/{service}") for service in RULES}
    told = {}
    for name in (*RULES, "scheduler"):
        spec = child(Installed(name, f"bursar_{name}"), 1, Home(tmp_path), "nats://x", tmp_path, files)
        told[name] = {key: spec.env[key] for key in spec.env if key in {rules.variable for rules in RULES.values()}}
    assert told == {
        "limiter": {"BURSAR_BUDGETS": "/rules/limiter"},
        "breaker": {"BURSAR_CIRCUITS": "/rules/breaker"},
        "monitor": {"BURSAR_RULES": "/rules/monitor"},
        "scheduler": {},
    }
