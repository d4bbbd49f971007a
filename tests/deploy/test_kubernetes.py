"""The manifests as they are applied, against the schemas of Kubernetes, and what they promise."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from bursar.bus.permissions import SERVICES
from bursar.client.worker import Worker
from tests.deploy.kustomize import Resource, pod_of, render

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
RENDERED: dict[str, list[Resource]] = {
    name: render(OVERLAYS / name) for name in ("dev", "prod", "prod-chart", "prod-keda")
}
EVERY = [(overlay, one) for overlay, resources in RENDERED.items() for one in resources]
IDS = [f"{overlay}-{one['kind']}-{one['metadata']['name']}" for overlay, one in EVERY]
PODS = [(overlay, one) for overlay, one in EVERY if pod_of(one)]
POD_IDS = [f"{overlay}-{one['kind']}-{one['metadata']['name']}" for overlay, one in PODS]
OLDEST, NEWEST = "1.29", "1.37"
SPOT = {"karpenter.sh/capacity-type", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}
"""Labels by which clouds name machines that may be taken away."""


def of(overlay: str, kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in RENDERED[overlay] if one["kind"] == kind}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_what_kubernetes_takes(version: str) -> None:
    """Strictly: a field that it does not know is an error."""
    for _, resource in EVERY:
        if resource["kind"] != "ScaledObject":  # KEDA's own: test_keda.py
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


@pytest.mark.parametrize("overlay", ["dev", "prod", "prod-chart"])
def test_workers_scale_from_5_to_100(overlay: str) -> None:
    """By CPU, memory and what the monitor wants."""
    scaler = of(overlay, "HorizontalPodAutoscaler")["workers"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (5, 100)
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "workers"}
    kinds = [
        metric.get("resource", metric.get("external", {}).get("metric"))["name"] for metric in scaler["spec"]["metrics"]
    ]
    assert kinds == ["cpu", "memory", "bursar_pool_desired_workers"]


@pytest.mark.parametrize("overlay", RENDERED)
def test_workers_like_spot_machines_and_have_the_time_to_hand_back(overlay: str) -> None:
    """The drain contract: SIGTERM, and longer than a worker's grace until SIGKILL."""
    pod = pod_of(of(overlay, "StatefulSet")["workers"])
    liked = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert {rule["preference"]["matchExpressions"][0]["key"] for rule in liked} == SPOT
    grace = inspect.signature(Worker).parameters["grace"].default
    assert pod["terminationGracePeriodSeconds"] >= grace + 10


@pytest.mark.parametrize(("overlay", "resource"), PODS, ids=POD_IDS)
def test_what_decides_and_what_keeps_never_runs_on_spot_machines(overlay: str, resource: Resource) -> None:
    """Services and servers; hosts' probes are where the cards are, a job runs anywhere."""
    if resource["metadata"]["name"] not in {*SERVICES, "nats"}:
        return
    required = pod_of(resource)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    assert {rule["key"] for rule in term["matchExpressions"]} == SPOT
    assert {rule["operator"] for rule in term["matchExpressions"]} <= {"NotIn", "DoesNotExist"}


@pytest.mark.parametrize("overlay", RENDERED)
def test_every_machine_with_cards_has_a_probe(overlay: str) -> None:
    """A DaemonSet on the nodes with NVIDIA cards, whatever their taints, which takes no card for itself."""
    pod = pod_of(of(overlay, "DaemonSet")["gpu-host"])
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["runtimeClassName"] == "nvidia"
    [container] = pod["containers"]
    assert container["command"] == ["bursar-gpu-node"]
    assert not any("nvidia.com/gpu" in container["resources"].get(kind, {}) for kind in ("requests", "limits"))


@pytest.mark.parametrize("overlay", RENDERED)
def test_nobody_speaks_to_anybody_unless_it_is_said(overlay: str) -> None:
    """A policy that denies all, and one for each way that there is."""
    policies = of(overlay, "NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ingress = [
        port["port"] for p in policies.values() for rule in p["spec"].get("ingress", []) for port in rule["ports"]
    ]
    assert sorted(set(ingress) - {9465}) == [4222, 6222, 9464]
    assert (9465 in ingress) is (overlay == "prod-keda")


def test_production_names_the_version_of_every_image() -> None:
    """Nothing runs whatever happens to be the latest."""
    version = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split('\nversion = "')[1].split('"')[0]
    images = {container["image"] for name, one in PODS for container in pod_of(one)["containers"] if name == "prod"}
    assert images - {"bursar-workers"} == {f"bursar/{name}:{version}" for name in (*SERVICES, "cli", "nats")}
