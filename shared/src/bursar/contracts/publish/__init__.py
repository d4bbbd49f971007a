"""The contracts, published: an AsyncAPI document and a JSON Schema per message, for agents in any language.

Pure: from the catalogue to texts by file name. ``bursar contracts`` writes them, ``make docs`` into this repository,
and a test fails when what is in the repository is not what the contracts say.
"""

from __future__ import annotations

import json
from typing import Any

from bursar.contracts.catalog import catalogues
from bursar.contracts.catalog.base import ServiceCatalog
from bursar.contracts.catalog.common import WORDS, ErrorReply, OwnerBeat, Signed
from bursar.contracts.publish.asyncapi import asyncapi
from bursar.contracts.publish.samples import sample
from bursar.contracts.publish.schema import apart, schema_of
from bursar.contracts.publish.yaml import to_yaml

__all__ = ["documents", "schemas_of"]

_HEAD = "# Generated from bursar.contracts by `make docs`: do not edit.\n"


def documents() -> dict[str, str]:
    """All files, by their path below ``docs``.

    Raises `bursar.contracts.publish.schema.UnexplainedField` when a field has no words.
    """
    found = catalogues()
    schemas = {catalog.name: schemas_of(catalog) for catalog in found}
    shared = {model.__name__: schema_of(model, WORDS) for model in (ErrorReply, Signed, OwnerBeat)}
    document = asyncapi(found, {**schemas, "common": shared})
    examples = {f"{catalog.name}.{name}": texts for catalog in found for name, texts in _examples(catalog).items()}
    named = [(f"{service}.{name}", schema) for service, own in schemas.items() for name, schema in own.items()]
    named += [(f"common.{name}", schema) for name, schema in shared.items()]
    files = {f"schemas/{name}.json": _json(apart(name, schema, examples.get(name, []))) for name, schema in named}
    return {"asyncapi.yaml": _HEAD + to_yaml(document), **files}


def schemas_of(catalog: ServiceCatalog) -> dict[str, dict[str, Any]]:
    """The schemas of a service's messages, by the name of the message."""
    answers = {model for operation in catalog.operations for model in operation.replies}
    words = {**WORDS, **catalog.words}
    return {model.__name__: schema_of(model, words, answers=model in answers) for model in catalog.messages}


def _examples(catalog: ServiceCatalog) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for operation in catalog.operations:
        found.setdefault(operation.request.__name__, []).append(sample(operation))
    return found


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
