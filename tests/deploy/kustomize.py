"""What ``kubectl kustomize`` makes of an overlay, for the few features that ours use; any other is an error.

So the manifests can be checked as they are applied, on machines without kubectl.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "images", "patches"}
_CLUSTER_WIDE = {"Namespace", "PriorityClass"}


def render(directory: Path) -> list[Resource]:
    """All resources of a kustomization, patched. Raises `ValueError` for what this does not know."""
    stated = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := stated.keys() - _KNOWN:
        raise ValueError(f"{directory}: {unknown}")
    found = [resource for name in stated["resources"] for resource in _load(directory / name)]
    for patch in stated.get("patches", []):
        _patch(found, patch)
    for resource in found:
        _adjust(resource, stated)
    return found


def _load(path: Path) -> Iterator[Resource]:
    if path.is_dir():
        yield from render(path)
    else:
        yield from (one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one)


def _patch(resources: list[Resource], patch: dict[str, Any]) -> None:
    target = patch["target"]
    if target.keys() - {"kind", "name"}:
        raise ValueError(f"targets are chosen by kind and name: {target}")
    chosen = [
        r for r in resources if r["kind"] == target["kind"] and target.get("name") in {None, r["metadata"]["name"]}
    ]
    if not chosen:
        raise ValueError(f"nothing is {target}")
    stated = yaml.safe_load(patch["patch"])
    for resource in chosen:
        if isinstance(stated, dict):
            _delete(resources, resource, stated)
            continue
        for change in stated:
            _change(resource, change)


def _delete(resources: list[Resource], resource: Resource, stated: Resource) -> None:
    """A strategic merge patch, of which only ``$patch: delete`` is known."""
    about = {"apiVersion": resource["apiVersion"], "kind": resource["kind"]}
    if stated != {"$patch": "delete", **about, "metadata": {"name": resource["metadata"]["name"]}}:
        raise ValueError(f"a patch that this does not know: {stated}")
    resources.remove(resource)


def _change(resource: Resource, change: dict[str, Any]) -> None:
    """One operation of JSON Patch (RFC 6902)."""
    *way, last = (part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:])
    place: Any = resource
    for part in way:
        place = place[int(part) if isinstance(place, list) else part]
    if change["op"] not in {"add", "replace"} or isinstance(place, list):
        raise ValueError(f"an operation that this does not know: {change}")
    if change["op"] == "replace" and last not in place:
        raise ValueError(f"{resource['kind']} {resource['metadata']['name']} has no {change['path']}")
    place[last] = copy.deepcopy(change["value"])


def _adjust(resource: Resource, stated: dict[str, Any]) -> None:
    """Namespace, labels, tags of images."""
    metadata = resource["metadata"]
    if "namespace" in stated and resource["kind"] not in _CLUSTER_WIDE:
        metadata["namespace"] = stated["namespace"]
    for label in stated.get("labels", []):
        metadata.setdefault("labels", {}).update(label["pairs"])
    tags = {image["name"]: image["newTag"] for image in stated.get("images", [])}
    for container in pod_of(resource).get("containers", []):
        if container["image"] in tags:
            container["image"] += f":{tags[container['image']]}"


def pod_of(resource: Resource) -> Resource:
    """The specification of the pods that a resource makes; empty when it makes none."""
    found: Resource = resource.get("spec", {}).get("template", {}).get("spec", {})
    return found
