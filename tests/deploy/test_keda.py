"""The ScaledObject: what KEDA takes, the same bounds and pace as our own autoscaler, and an address that answers."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.deploy.keda import SCALED_OBJECT, autoscaler
from tests.deploy.test_kubernetes import NEWEST, OLDEST, RENDERED, of

SCALED: dict[str, Any] = of("prod-keda", "ScaledObject")["workers"]


def test_keda_takes_it() -> None:
    """Strictly; and the check can fail."""
    jsonschema.validate(SCALED, SCALED_OBJECT)
    for broken in ({"minReplicas": 5}, {"maxReplicaCount": "100"}, {"triggers": [{"type": "external"}]}):
        wrong = copy.deepcopy(SCALED)
        wrong["spec"].update(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCALED_OBJECT)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_autoscaler_that_keda_makes_of_it(version: str) -> None:
    """With the bounds, resources and pace of the one that the base has."""
    made, ours = autoscaler(SCALED), of("prod", "HorizontalPodAutoscaler")["workers"]
    kubernetes_validate.validate(made, version, strict=True)
    for key in ("scaleTargetRef", "minReplicas", "maxReplicas", "behavior"):
        assert made["spec"][key] == ours["spec"][key]
    assert made["spec"]["metrics"][:2] == ours["spec"]["metrics"][:2]
    assert [metric["type"] for metric in made["spec"]["metrics"]] == ["Resource", "Resource", "External"]


def test_the_workers_have_one_autoscaler() -> None:
    """KEDA's in the place of ours: two would fight over one number."""
    assert of("prod-keda", "HorizontalPodAutoscaler") == {}
    assert {len(of(overlay, "HorizontalPodAutoscaler")) for overlay in ("dev", "prod")} == {1}
    assert [overlay for overlay in RENDERED if of(overlay, "ScaledObject")] == ["prod-keda"]


def test_the_scaler_is_where_keda_looks_for_it() -> None:
    """Service, port of the container, what turns it on, and the way through the network are one port."""
    [external] = [one for one in SCALED["spec"]["triggers"] if one["type"] == "external"]
    host, port = external["metadata"]["scalerAddress"].split(":")
    service = of("prod-keda", "Service")["monitor"]
    assert host == f"monitor.{service['metadata']['namespace']}.svc.cluster.local"
    [named] = [one for one in service["spec"]["ports"] if one["name"] == "scaler"]
    [container] = of("prod-keda", "Deployment")["monitor"]["spec"]["template"]["spec"]["containers"]
    [of_container] = [one for one in container["ports"] if one["name"] == named["targetPort"]]
    [env] = [one["value"] for one in container["env"] if one["name"] == "BURSAR_KEDA_PORT"]
    policy = of("prod-keda", "NetworkPolicy")["scaler"]["spec"]["ingress"][0]
    assert {int(port), named["port"], of_container["containerPort"], int(env), policy["ports"][0]["port"]} == {9465}
