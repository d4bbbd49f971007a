"""The manifests as they are applied, against the schemas of Kubernetes, and what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from bursar.bus.permissions import SERVICES
from tests.deploy.kustomize import Resource, pod_of, render

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
RENDERED: dict[str, list[Resource]] = {name: render(OVERLAYS / name) for name in ("dev", "prod")}
EVERY = [(overlay, one) for overlay, resources in RENDERED.items() for one in resources]
IDS = [f"{overlay}-{one['kind']}-{one['metadata']['name']}" for overlay, one in EVERY]
PODS = [(overlay, one) for overlay, one in EVERY if pod_of(one)]
POD_IDS = [f"{overlay}-{one['kind']}-{one['metadata']['name']}" for overlay, one in PODS]
OLDEST, NEWEST = "1.29", "1.37"


def of(overlay: str, kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in RENDERED[overlay] if one["kind"] == kind}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_what_kubernetes_takes(version: str) -> None:
    """Strictly: a field that it does not know is an error."""
    for _, resource in EVERY:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_wrong_manifest_is_found() -> None:
    """The check can fail: a misspelt field, a wrong type."""
    wrong = json.loads(json.dumps(of("dev", "Deployment")["limiter"]))
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)
    wrong = json.loads(json.dumps(of("dev", "Deployment")["limiter"]))
    wrong["spec"]["replicas"] = "two"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@pytest.mark.parametrize(("overlay", "resource"), PODS, ids=POD_IDS)
def test_pods_have_no_rights_that_they_do_not_need(overlay: str, resource: Resource) -> None:
    """As the namespace's level "restricted" wants it, and a bit more."""
    pod = pod_of(resource)
    assert (
        of(overlay, "Namespace").popitem()[1]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    assert pod["serviceAccountName"] in of(overlay, "ServiceAccount")
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize(("overlay", "resource"), PODS, ids=POD_IDS)
def test_what_a_pod_names_is_there(overlay: str, resource: Resource) -> None:
    """Labels are those that the selector wants, mounts have volumes, references have their objects."""
    template, spec = resource["spec"]["template"], resource["spec"]
    if "selector" in spec:
        assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    volumes = {volume["name"] for volume in pod_of(resource)["volumes"]} | claims
    for container in pod_of(resource)["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        ports = {port["name"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            for how in container.get(kind, {}).values():
                assert not isinstance(how, dict) or how.get("port", "health") in ports | {"health"}
    if "serviceName" in spec:
        assert spec["serviceName"] in of(overlay, "Service")


@pytest.mark.parametrize("overlay", RENDERED)
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_runs_twice_at_least_and_one_stays(overlay: str, service: str) -> None:
    """Spread over machines, replaced one by one, each asked whether it serves; a drain leaves one."""
    deployment, budget = of(overlay, "Deployment")[service], of(overlay, "PodDisruptionBudget")[service]
    pod = pod_of(deployment)
    assert deployment["spec"]["replicas"] >= 2
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert budget["spec"]["minAvailable"] >= 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert {rule["topologyKey"] for rule in pod["topologySpreadConstraints"]} >= {"kubernetes.io/hostname"}
    [container] = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert pod["volumes"][0]["secret"]["secretName"] == f"bursar-{service}"
    assert pod["terminationGracePeriodSeconds"] > 10


@pytest.mark.parametrize("overlay", RENDERED)
def test_workers_scale_from_5_to_100_and_say_goodbye(overlay: str) -> None:
    """By CPU, memory and what the monitor wants; on spot machines, with the time that a worker needs to hand back."""
    scaler, workers = of(overlay, "HorizontalPodAutoscaler")["workers"], of(overlay, "StatefulSet")["workers"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (5, 100)
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "workers"}
    kinds = [
        metric.get("resource", metric.get("external", {}).get("metric"))["name"] for metric in scaler["spec"]["metrics"]
    ]
    assert kinds == ["cpu", "memory", "bursar_pool_desired_workers"]
    pod = pod_of(workers)
    assert pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert pod["terminationGracePeriodSeconds"] >= 30 + 10


@pytest.mark.parametrize("overlay", RENDERED)
def test_nobody_speaks_to_anybody_unless_it_is_said(overlay: str) -> None:
    """A policy that denies all, and one for each way that there is."""
    policies = of(overlay, "NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ingress = [
        port["port"] for p in policies.values() for rule in p["spec"].get("ingress", []) for port in rule["ports"]
    ]
    assert sorted(ingress) == [4222, 6222, 9464]


def test_production_names_the_version_of_every_image() -> None:
    """Nothing runs whatever happens to be the latest."""
    version = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split('\nversion = "')[1].split('"')[0]
    images = {container["image"] for _, one in PODS for container in pod_of(one)["containers"] if _ == "prod"}
    assert images - {"bursar-workers"} == {f"bursar/{name}:{version}" for name in (*SERVICES, "cli", "nats")}
