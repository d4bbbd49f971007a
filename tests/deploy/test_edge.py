"""The manifests of an edge site and of a centre that has such sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from bursar.bus.identity import create_home
from bursar.bus.permissions import SERVICES
from bursar.bus.server.bundle import Plan, write_bundle
from bursar.bus.server.link import LINK_PORT, read_link, write_link
from tests.deploy.kustomize import Resource, pod_of, render
from tests.deploy.test_kubernetes import NEWEST, OLDEST, OVERLAYS

EDGE: list[Resource] = render(OVERLAYS / "edge")
CENTRE: list[Resource] = render(OVERLAYS / "prod-sites")


def of(resources: list[Resource], kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_what_kubernetes_takes(version: str) -> None:
    """Strictly: a field that it does not know is an error."""
    for resource in (*EDGE, *CENTRE):
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_site_runs_what_it_decides_itself_and_nothing_that_it_shares() -> None:
    """All services but the limiter, on one server of its own."""
    assert of(EDGE, "Deployment").keys() == set(SERVICES) - {"limiter"}
    assert not any("limiter" in of(EDGE, kind) for kind in ("ServiceAccount", "PodDisruptionBudget"))
    assert of(EDGE, "StatefulSet")["nats"]["spec"]["replicas"] == 1
    assert pod_of(of(EDGE, "Job")["streams"])["containers"][0]["args"][-2:] == ["--replicas", "1"]


def test_everybody_at_a_site_asks_its_own_server() -> None:
    """None of the centre's is named but in the server's own configuration."""
    urls = [
        env["value"]
        for resource in EDGE
        for container in pod_of(resource).get("containers", [])
        for env in container.get("env", [])
        if env["name"] == "BURSAR_URL"
    ]
    assert set(urls) == {"tls://nats-0.nats:4222"}
    assert len(urls) == len(SERVICES) - 1 + 3


def test_the_sites_server_has_the_files_that_its_configuration_names(tmp_path: Path) -> None:
    """Of the bundle that is made with the link."""
    centre, site = create_home(tmp_path / "c"), create_home(tmp_path / "s", set(SERVICES) - {"limiter"})
    write_link(centre, "oslo", ["cam-1"], ["limiter"], ["nats.example.org"], tmp_path / "link")
    node = "nats-0.nats"
    write_bundle(site, Plan([node], link=read_link(tmp_path / "link")), tmp_path / "bundle")
    [source] = pod_of(of(EDGE, "StatefulSet")["nats"])["volumes"][0]["projected"]["sources"]
    mounted = {item["key"] for item in source["secret"]["items"]}
    assert mounted <= {path.name for path in (tmp_path / "bundle" / node).iterdir()}
    config = (tmp_path / "bundle" / node / "server.conf").read_text()
    named = {part.strip('",').rpartition("/")[2] for part in config.split() if "/etc/bursar/" in part}
    assert named | {"server.conf"} == mounted
    [remote] = json.loads(config)["leafnodes"]["remotes"]
    assert remote["urls"] == [f"tls://nats.example.org:{LINK_PORT}"]


def test_a_link_has_one_way_through_the_network_at_each_end() -> None:
    """Out of the site's server, into the centre's."""
    [out] = of(EDGE, "NetworkPolicy")["link"]["spec"]["egress"]
    [into] = of(CENTRE, "NetworkPolicy")["sites"]["spec"]["ingress"]
    [port] = of(CENTRE, "Service")["nats-sites"]["spec"]["ports"]
    assert {out["ports"][0]["port"], into["ports"][0]["port"], port["targetPort"]} == {LINK_PORT}
    assert "sites" not in of(render(OVERLAYS / "prod"), "NetworkPolicy")
