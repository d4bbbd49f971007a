"""Every alert rule has a page that says what to do, and every alert names it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import bursar_monitor
from bursar.cli.main import MODULES
from bursar.contracts.monitor_policy import Rule

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "runbooks"
RULES = tomllib.loads((Path(bursar_monitor.__file__).parent / "rules.toml").read_text())["rules"]
PARTS = ["## Look first", "## Then", "## Over"]


def test_there_is_a_page_for_each_rule_and_no_other() -> None:
    """A rule that is added or renamed takes its page along."""
    assert {path.stem for path in PAGES.glob("*.md")} == set(RULES)


def test_an_alert_leads_to_the_page_of_its_rule() -> None:
    """By its own path unless the rule names another place."""
    for name in RULES:
        rule = Rule(name=name, signal="owner_missing", at_least=1)
        assert (ROOT / rule.page).is_file()
    assert Rule(name="mine", signal="owner_missing", at_least=1, runbook="https://wiki/x").page == "https://wiki/x"


def test_each_page_says_what_to_look_at_and_what_to_do() -> None:
    """In the same order on every page, by commands that there are."""
    for path in PAGES.glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {path.stem}\n"), path
        assert [line for line in text.splitlines() if line.startswith("## ")] == PARTS, path
        assert set(re.findall(r"`bursar ([a-z]+)", text)) <= set(MODULES), path
