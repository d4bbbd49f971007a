"""The file of rules: what may stand there, and how errors are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.contracts.breaker import Rule
from bursar_breaker.circuitfile import BadRules
from bursar_breaker.service import start
from bursar_breaker.settings import EXAMPLE, BreakerSettings, read_rules
from tests.breaker.desk import Desk

TEXT = """
[default]
window = "2s"
failure_rate = "12.5%"
open_for = 250

[targets."a/b"]
open_for = "1.5s"
probes = 3
"""


def test_the_example_has_the_defaults() -> None:
    """What it says is what holds without it."""
    assert read_rules(EXAMPLE) == ((Rule(),), ())


def test_a_target_starts_from_the_default_table(tmp_path: Path) -> None:
    """Units as people write them."""
    file = tmp_path / "circuits.toml"
    file.write_text(TEXT)
    [default, target], groups = read_rules(file)
    assert groups == ()
    assert default == Rule(window_ms=2_000, failure_permille=125, open_ms=250)
    assert target == Rule(target="a/b", window_ms=2_000, failure_permille=125, open_ms=1_500, probes=3)


def test_guards_fallbacks_ramps_and_groups_are_read(tmp_path: Path) -> None:
    """In the units of people; a budget is of one target and not inherited from the default table."""
    file = tmp_path / "circuits.toml"
    file.write_text(
        """
[default]
slow_after = "2s"
concurrency = 50
[targets."p/eu"]
budget = "acme/large"
ramp = ["1%", "10.5%"]
retry_share = "5%"
concurrency_tolerance = "200%"
fallbacks = ["region:p/us", "cached", "cached:1h", "degraded:Ask: later."]
[groups.eu]
members = ["p/eu", "q/eu"]
"""
    )
    [default, target], [group] = read_rules(file)
    assert (default.guard.slow_ms, default.guard.concurrency, default.budget) == (2_000, 50, None)
    assert (target.budget, target.ramp) == ("acme/large", (10, 105))
    guard = target.guard
    assert (guard.slow_ms, guard.retry_permille, guard.concurrency_tolerance_permille) == (2_000, 50, 2_000)
    assert [(step.kind, step.to, step.max_age_ms, step.answer) for step in target.fallbacks] == [
        ("region", "p/us", None, ""),
        ("cached", None, None, ""),
        ("cached", None, 3_600_000, ""),
        ("degraded", None, None, "Ask: later."),
    ]
    assert (group.name, group.members) == ("eu", ("p/eu", "q/eu"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[default]\nwidow = 1", "[default]: unknown key 'widow'"),
        ("[defaults]", "unknown key 'defaults'"),
        ('[default]\nwindow = "2 weeks"', "window = '2 weeks' must be a time"),
        ('[default]\nfailure_rate = "0.55%"', "failure_rate"),
        ('[default]\nfailure_rate = "150%"', "failure_permille"),
        ("[default]\nprobes = true", "probes"),
        ('[default]\nopen_for = "0.1ms"', "open_for"),
        ('[targets."A B"]\nprobes = 1', "target"),
        ('[targets.a]\nopen_for = "9m"', "a: the longest open time"),
        ("targets = 3", "targets must be tables"),
        ("default = 3", "[default]: must be a table"),
        ("[", "circuits.toml"),
        ('[default]\nramp = "5%"', "list of percentages"),
        ('[default]\nramp = ["5 per cent"]', "percentage"),
        ("[targets.a]\nbudget = 5", "must be a name"),
        ('[default]\nfallbacks = ["magic:x"]', "unknown link 'magic:x'"),
        ('[default]\nfallbacks = "cached"', "must be a list"),
        ('[default]\nfallbacks = ["region:A B"]', "fallbacks"),
        ("[groups.eu]", "[groups.eu]: must have members"),
        ("[groups.eu]\nmembers = [3]", "[groups.eu]: members.0"),
        ("groups = 3", "groups must be tables"),
        ('[targets."group/eu"]\nprobes = 2', "no such group"),
    ],
)
def test_errors_name_the_table_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    """And the file."""
    file = tmp_path / "circuits.toml"
    file.write_text(text)
    with pytest.raises(BadRules) as error:
        read_rules(file)
    assert words in str(error.value)
    assert str(file) in str(error.value)


def test_a_file_is_applied_once(tmp_path: Path) -> None:
    """A restart does not undo what an operator has configured since; a file that is wrong by now changes nothing."""
    file = tmp_path / "circuits.toml"
    file.write_text(TEXT)
    settings = BreakerSettings(circuits=file)
    desk = Desk()
    [load] = start(settings, desk.state)
    desk.must(load, "svc-breaker")
    assert start(settings, desk.state) == []
    assert start(settings, desk.restarted().state) == []
    file.write_text("[")
    assert start(settings, desk.state) == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(BadRules, match="cannot be read"):
        read_rules(tmp_path / "none.toml")
