"""What a ``ScaledObject`` (keda.sh/v1alpha1) may say: the fields of KEDA 2's resource definition that we use or might,
written down from its documentation, and the HorizontalPodAutoscaler that KEDA makes of it.

Strict: a field that is not here is an error. ``behavior`` is Kubernetes' own and is checked as part of the autoscaler.
"""

from __future__ import annotations

from typing import Any, Final

_STRING: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}


def _object(required: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "additionalProperties": False, "properties": fields}


SCALED_OBJECT: Final = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata={"type": "object"},
    spec=_object(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_object(
            ("name",), apiVersion=_STRING, kind=_STRING, name=_STRING, envSourceContainerName=_STRING
        ),
        minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        idleReplicaCount=_COUNT,
        pollingInterval=_COUNT,
        cooldownPeriod=_COUNT,
        initialCooldownPeriod=_COUNT,
        fallback=_object(("failureThreshold", "replicas"), failureThreshold=_COUNT, replicas=_COUNT, behavior=_STRING),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ("type", "metadata"),
                type=_STRING,
                name=_STRING,
                metricType={"enum": ["AverageValue", "Value", "Utilization"]},
                useCachedMetrics={"type": "boolean"},
                metadata={"type": "object", "additionalProperties": _STRING},
                authenticationRef=_object(("name",), name=_STRING, kind=_STRING),
            ),
        },
        advanced=_object(
            (),
            restoreToOriginalReplicaCount={"type": "boolean"},
            horizontalPodAutoscalerConfig=_object((), name=_STRING, behavior={"type": "object"}),
            scalingModifiers=_object((), formula=_STRING, target=_STRING, activationTarget=_STRING, metricType=_STRING),
        ),
    ),
)


def autoscaler(scaled: dict[str, Any]) -> dict[str, Any]:
    """The HorizontalPodAutoscaler that KEDA makes: its own name, resources as such, everything else as an external
    metric with the target 1 that our scaler names."""
    spec = scaled["spec"]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {**scaled["metadata"], "name": f"keda-hpa-{scaled['metadata']['name']}"},
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [_metric(trigger) for trigger in spec["triggers"]],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        },
    }


def _metric(trigger: dict[str, Any]) -> dict[str, Any]:
    if trigger["type"] in {"cpu", "memory"}:
        assert trigger["metricType"] == "Utilization"
        target = {"type": "Utilization", "averageUtilization": int(trigger["metadata"]["value"])}
        return {"type": "Resource", "resource": {"name": trigger["type"], "target": target}}
    name = f"bursar-{trigger['metadata']['pool']}"
    target = {"type": trigger["metricType"], "averageValue": "1"}
    return {"type": "External", "external": {"metric": {"name": name}, "target": target}}
