"""Rules from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from bursar.contracts.monitor_policy import Grouping, Inhibition, Signal
from bursar.contracts.monitor_scaling import Policy, Scaler, StepPolicy
from bursar_monitor.rules import BadRules, policy_of
from bursar_monitor.service import start
from bursar_monitor.settings import DEFAULT_RULES, MonitorSettings, read_rules
from tests.monitor.fleet import Desk


def test_the_rules_that_come_with_the_monitor_are_good() -> None:
    """They look at every signal there is."""
    policy = read_rules(DEFAULT_RULES)
    looked_at = {rule.signal for rule in policy.rules} | {slo.signal for slo in policy.slos}
    assert looked_at == set(get_args(Signal))
    assert [slo.objective_ppm for slo in policy.slos] == [950_000] * 6 + [999_000]
    assert policy.grouping == Grouping(wait_ms=5_000, interval_ms=300_000, repeat_ms=14_400_000)


def test_units_are_those_that_people_write() -> None:
    """A limit is a time, a percentage or a count, as its signal's name ends."""
    table: dict[str, Any] = {
        "a": {"signal": "host_silence_ms", "at_least": "1.5s", "hold": "2m", "clear": 250},
        "b": {"signal": "cpu_permille", "at_least": "92.5%", "clear_below": "90%", "severity": "info"},
        "c": {"signal": "queue_growth", "at_least": "40", "subjects": "reactive*"},
    }
    a, b, c = policy_of({"rules": table}, "f").rules
    assert (a.at_least, a.hold_ms, a.clear_ms, a.clears_below) == (1_500, 120_000, 250, 1_500)
    assert (b.at_least, b.clears_below, b.severity) == (925, 900, "info")
    assert (c.at_least, c.subjects) == (40, "reactive*")
    assert policy_of({}, "f") == Policy()


def test_objectives_inhibitions_and_grouping_stand_in_the_same_file() -> None:
    """Bands in the unit of the signal, objectives as percentages, burn rates as multiples, times as times."""
    policy = policy_of(
        {
            "rules": {"fast": {"signal": "burn_1h", "at_least": "14.4x"}},
            "slos": {"up": {"signal": "owner_missing", "high": 0, "objective": "99.95%", "each": True}},
            "inhibitions": [{"source": "fast", "target": "*", "equal": "any"}],
            "grouping": {"wait": "1s", "repeat": "1d"},
            "scalers": {"gpu": {"busy": "70%", "down_steps": ["10% in 1m", "4 in 60s"], "horizon": "90s"}},
        },
        "f",
    )
    assert policy.rules[0].at_least == 14_400
    assert (policy.slos[0].objective_ppm, policy.slos[0].high, policy.slos[0].each) == (999_500, 0, True)
    assert policy.inhibitions == (Inhibition(source="fast", target="*", equal="any"),)
    down = (
        StepPolicy(unit="percent", value=10, period_s=60),
        StepPolicy(unit="replicas", value=4, period_s=60),
    )
    assert policy.scalers == (Scaler(name="gpu", busy_permille=700, down_steps=down, horizon_s=90),)
    assert policy.grouping == Grouping(wait_ms=1_000, repeat_ms=86_400_000)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"rule": {}}, "unknown key 'rule'"),
        ({"rules": []}, "tables"),
        ({"rules": {"a": 1}}, "[rules.a]: must be a table"),
        ({"rules": {"a": {"sgnal": 1}}}, "unknown key 'sgnal'"),
        ({"rules": {"a": {"signal": "cpu_permille", "at_least": "90"}}}, "at_least = '90' must be a percentage"),
        ({"rules": {"a": {"signal": "cpu_permille", "at_least": "90.05%"}}}, "come out whole"),
        ({"rules": {"a": {"signal": "host_silence_ms", "at_least": True}}}, "must be a time"),
        ({"rules": {"a": {"signal": "nonsense", "at_least": 1}}}, "signal:"),
        ({"rules": {"A b": {"signal": "gpu_lost", "at_least": 1}}}, "name:"),
        ({"rules": {"a": {"signal": "gpu_lost", "at_least": 1, "clear_below": 2}}}, "would clear above"),
        ({"rules": {"a": {"signal": "gpu_lost", "at_least": 1, "hold": "soon"}}}, "hold = 'soon' must be a time"),
        ({"slos": {"a": {"signal": "gpu_lost", "objective": "99%"}}}, "has no bound"),
        ({"slos": {"a": {"signal": "gpu_lost", "objective": "100%", "high": 0}}}, "objective_ppm"),
        ({"slos": {"a": {"signal": "gpu_lost", "objective": "9%", "high": 0, "low": 1}}}, "upside down"),
        ({"slos": {"a": {"signal": "burn_1h", "objective": "9%", "high": "2"}}}, "must be a rate"),
        ({"inhibitions": {}}, "[[inhibitions]]"),
        ({"inhibitions": [{"source": "a", "target": "a"}]}, "inhibit itself"),
        ({"inhibitions": [{"source": "a", "target": "b", "equal": "x"}]}, "[[inhibitions]] number 1: equal"),
        ({"scalers": {"a": {"down_steps": ["4"]}}}, "must be a list such as"),
        ({"scalers": {"a": {"down_steps": "4 in 15s"}}}, "must be a list such as"),
        ({"scalers": {"a": {"horizon": "500ms"}}}, "must be whole seconds"),
        ({"scalers": {"a": {"least": 9, "most": 8}}}, "least number above"),
        ({"grouping": {"wait": "long"}}, "[grouping]: wait = 'long' must be a time"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document: dict[str, Any], says: str) -> None:
    """File, table, key, and what would be right."""
    with pytest.raises(BadRules) as caught:
        policy_of(document, "rules.toml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("rules.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or not TOML."""
    with pytest.raises(BadRules, match="cannot be read"):
        read_rules(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[rules")
    with pytest.raises(BadRules, match=r"bad\.toml"):
        read_rules(tmp_path / "bad.toml")


def test_a_restart_does_not_undo_what_an_operator_has_set(tmp_path: Path) -> None:
    """The content of the file is applied once; other content is applied again; a wrong file changes nothing."""
    path = tmp_path / "rules.toml"
    path.write_text('[rules.a]\nsignal = "gpu_lost"\nat_least = 1\n')
    settings = MonitorSettings(rules=path)
    desk = Desk()
    for body in start(settings, desk.state):
        desk.observe(body)
    assert list(desk.state.rules) == ["a"]
    assert start(settings, desk.state) == []
    path.write_text('[rules.b]\nsignal = "gpu_lost"\nat_least = 1\n')
    (again,) = start(settings, desk.state)
    desk.observe(again)
    desk.observe(again)
    assert list(desk.state.rules) == ["b"]
    path.write_text("[rules")
    assert start(settings, desk.state) == []
    desk.check()
