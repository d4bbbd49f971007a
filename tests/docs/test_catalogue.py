"""The catalogue says what the services do: every verb, every message, every error, in both directions."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from bursar.bus import permissions
from bursar.bus.codec import _AMOUNTS as CODEC_AMOUNTS
from bursar.cli.services import GROUP, discover
from bursar.client.caller import RETRYABLE
from bursar.contracts.base import Message
from bursar.contracts.catalog import Kind, Operation, ServiceCatalog, catalogues
from bursar.contracts.catalog.base import ANSWERED, ROLES, VERSION
from bursar.contracts.catalog.common import (
    AMOUNT_ERRORS,
    AMOUNT_FIELDS,
    BORDER_ERRORS,
    ID_ERRORS,
    RIGHTS_ERRORS,
    STATE_ERRORS,
    errors_of,
)
from bursar.errors import CODES
from bursar.kernel.spec import ServiceSpec, Verb
from tests.packaging.test_distributions import FLEET

ROOT = Path(__file__).resolve().parents[2]
CATALOGUES = {catalog.name: catalog for catalog in catalogues()}
INSTALLED = [service.name for service in discover() if entry_points(group=GROUP, name=service.name)]


def spec_of(service: str) -> ServiceSpec:
    [found] = entry_points(group=GROUP, name=service)
    spec: ServiceSpec = found.load()
    return spec


def heard(spec: ServiceSpec) -> dict[tuple[Kind, str], Any]:
    """What a service listens to: kind and verb -> the message."""
    ears: list[tuple[Kind, Any]] = [
        ("req", spec.verbs),
        ("adm", spec.admin),
        ("work", spec.work),
        ("obs", spec.observations),
        ("node", spec.nodes),
    ]
    found = {(kind, verb): rule.message for kind, rules in ears for verb, rule in rules.items()}
    return found | ({("inbox", ""): spec.inbox.message} if spec.inbox is not None else {})


def differences(spec: ServiceSpec, catalog: ServiceCatalog) -> list[str]:
    """Where the service and its catalogue do not agree."""
    said = {(operation.kind, operation.verb): operation.request for operation in catalog.operations}
    ears = heard(spec)
    wrong = [f"{kind} {verb} is not in the catalogue" for kind, verb in ears.keys() - said.keys()]
    wrong += [f"nobody listens to {kind} {verb}" for kind, verb in said.keys() - ears.keys()]
    return wrong + [f"{key} takes {ears[key]}" for key in ears.keys() & said.keys() if not same(ears[key], said[key])]


def same(heard: type[Message], said: type[Message]) -> bool:
    """The same message, or one that a service has only given another name (to decide it by another rule)."""
    return issubclass(heard, said) and heard.model_fields.keys() == said.model_fields.keys()


def rejections(folder: Path, *words: str) -> Iterator[tuple[str, str]]:
    """The error codes that the code of a service rejects with, each with its place: the first argument of what is
    called by one of these words, "reject" if there are none."""
    words = words or ("reject",)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if any(word in called.lower() for word in words):
                    yield str(node.args[0].value), f"{path.name}:{node.lineno}"


def test_every_installed_service_is_in_the_catalogue() -> None:
    """And the reverse: a catalogue without a service would describe nothing."""
    assert sorted(CATALOGUES) == sorted(INSTALLED)


@pytest.mark.parametrize("service", INSTALLED)
def test_catalogue_and_service_agree(service: str) -> None:
    """Each verb that a service listens to stands in the catalogue with the same message, and nothing else does."""
    assert differences(spec_of(service), CATALOGUES[service]) == []


def test_a_difference_is_noticed() -> None:
    """A verb that is missing on either side, and one with another message."""
    catalog = CATALOGUES["limiter"]
    spec = dataclasses.replace(
        spec_of("limiter"),
        verbs={verb: Verb(operation.request) for verb, operation in catalog.verbs("req").items()},
        admin={verb: Verb(operation.request) for verb, operation in catalog.verbs("adm").items()},
    )
    assert differences(spec, catalog) == []
    fewer = ServiceCatalog("limiter", "", catalog.operations[1:], {})
    assert differences(spec, fewer) == ["req reserve is not in the catalogue"]
    more = Operation("obs", "gossip", catalog.operations[0].request, "")
    assert differences(spec, ServiceCatalog("limiter", "", (*catalog.operations, more), {})) == [
        "nobody listens to obs gossip"
    ]
    moved = Operation("req", "clock", catalog.operations[0].request, "", replies=catalog.operations[0].replies)
    clock = next(index for index, operation in enumerate(catalog.operations) if operation.verb == "clock")
    other = (*catalog.operations[:clock], moved, *catalog.operations[clock + 1 :])
    assert len(differences(spec, ServiceCatalog("limiter", "", other, {}))) == 1


@pytest.mark.parametrize("service", INSTALLED)
def test_every_rejection_is_listed(service: str) -> None:
    """A code that the service's code rejects with belongs to one of its operations."""
    listed = {code for operation in CATALOGUES[service].operations for code in errors_of(operation)}
    found = list(rejections(ROOT / "services" / service / "src"))
    assert [(code, place) for code, place in found if code not in listed] == []


def test_every_code_that_the_kernel_answers_with_is_listed_for_every_request() -> None:
    """Whatever it rejects, and whatever the decoder refuses: an agent in another language must know what to do."""
    kernel = rejections(ROOT / "shared/src/bursar/kernel", "reject", "make_error", "callererror")
    codec = rejections(ROOT / "shared/src/bursar/bus", "_bad_request", "callererror")
    decoded = {code for code, place in codec if place.startswith("codec.py")}
    assert decoded == {*BORDER_ERRORS, *AMOUNT_ERRORS}
    assert {code for code, _ in kernel} <= {*BORDER_ERRORS, *ID_ERRORS, *RIGHTS_ERRORS, *STATE_ERRORS}
    reserve = CATALOGUES["limiter"].verbs("req")["reserve"]
    assert {*ID_ERRORS, *RIGHTS_ERRORS, *BORDER_ERRORS, *AMOUNT_ERRORS, *STATE_ERRORS} <= set(errors_of(reserve))
    assert not {*ID_ERRORS, *AMOUNT_ERRORS} & set(errors_of(CATALOGUES["limiter"].verbs("req")["clock"]))
    assert AMOUNT_FIELDS == CODEC_AMOUNTS


def test_python_and_node_repeat_after_the_same_codes_as_the_page_says() -> None:
    """One list in three languages."""
    page = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
    listed = re.search(r"and the codes (.*?): repeat", page, re.DOTALL)
    node = re.search(r"NOT_NOW = new Set\(\[(.*?)\]\)", (ROOT / "examples/node-agent/bursar.mjs").read_text())
    assert listed is not None
    assert node is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(re.findall(r"'(\w+)'", node[1])) == RETRYABLE


@pytest.mark.parametrize("service", INSTALLED)
def test_every_listed_error_is_one_that_the_service_has(service: str) -> None:
    """An operation promises no error that the code does not know, rejected or raised."""
    own = {code for operation in CATALOGUES[service].operations for code in operation.errors}
    known = {code for code, _ in rejections(ROOT / "services" / service / "src", "reject", "callererror")}
    assert own <= known | {"bad_fence"}


def test_every_error_has_a_meaning() -> None:
    """Whatever code the documents name stands in the one table of codes."""
    named = {code for catalog in CATALOGUES.values() for o in catalog.operations for code in errors_of(o)}
    assert named <= CODES.keys()
    assert {*BORDER_ERRORS, *ID_ERRORS, *STATE_ERRORS} <= CODES.keys()


@pytest.mark.parametrize("service", INSTALLED)
def test_roles_of_the_catalogue_are_those_of_the_permissions(service: str) -> None:
    """Who is said to be allowed to publish somewhere is allowed by the permissions, and the other roles are not."""
    roles = {name: role for name, role in permissions.matrix((service,)).items() if not name.startswith("svc-")}
    for operation in CATALOGUES[service].operations:
        subject = operation.subject(service, permissions.OWN)
        may = {name for name, role in roles.items() if any(matches(subject, rule) for rule in role.publish)}
        assert may == set(ROLES[operation.kind]) & roles.keys(), subject


def matches(subject: str, pattern: str) -> bool:
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(w in ("*", t) for t, w in zip(tokens, wanted[:-1], strict=False))
    return len(tokens) == len(wanted) and all(w in ("*", t) for t, w in zip(tokens, wanted, strict=True))


def test_plain_publishes_have_no_reply() -> None:
    """An operation with a reply is a request, one without is not: anything else cannot be declared."""
    with pytest.raises(ValueError, match="requests have replies"):
        Operation("req", "x", CATALOGUES["limiter"].operations[0].request, "")
    assert {"req", "adm", "work"} == ANSWERED


def test_contracts_have_the_version_of_the_distribution() -> None:
    """Before 1.0 the wire may change with the minor version, so the documents carry that version."""
    assert FLEET["version"] == VERSION
