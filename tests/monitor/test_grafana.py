"""The dashboard for Grafana asks for what there is: metrics and labels of `/metrics`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bench.monitor_fleet import Fleet
from bursar_monitor.health import Health
from bursar_monitor.metrics import Exposition
from tests.monitor.test_metrics import Hand

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "deploy" / "grafana" / "bursar.json").read_text(encoding="utf-8")
)
TARGETS = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def exposed() -> dict[str, set[str]]:
    """Every metric of a fleet of which everything is known, something is silent and an alert fires: its labels."""
    fleet = Fleet(3)
    fleet.tick()
    for _ in range(30):
        fleet.tick(silent=fleet.names[:1])
    made = Exposition(Health(0), Hand())
    made.show(fleet.tick(silent=fleet.names[:1]))
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(made.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_of_the_dashboard_is_there() -> None:
    """A metric that is renamed is renamed in both."""
    known = exposed()
    assert len(TARGETS) > 20
    for target in TARGETS:
        names = re.findall(r"\bbursar_[a-z0-9_]+", target["expr"])
        assert names, target
        assert set(names) <= known.keys(), target
        labels = set().union(*(known[name] for name in names))
        asked = set(re.findall(r"([a-z_]+)!?=~?\"", target["expr"])) | set(
            re.findall(r"{{([a-z_]+)}}", target["legendFormat"])
        )
        assert asked <= labels, target


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have numbers of their own and do not lie on one another; the source is chosen by the person."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    assert all(panel["datasource"]["uid"] == "${source}" for panel in panels if panel["type"] != "row")
