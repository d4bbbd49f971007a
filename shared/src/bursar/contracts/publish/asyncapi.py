"""The catalogue as one AsyncAPI 3.0 document, told from the side of a caller: an agent, a worker, a probe, an operator.

A request is an operation ``send`` with a reply, a plain publish one without; a broadcast or a notice is an operation
``receive``. The names are ``<service>.<kind>.<verb>``, as in the subjects.

Things that AsyncAPI has no word for stand in extensions: ``x-roles`` (whose credentials may do it), ``x-errors`` (the
codes that it may be answered with), ``x-error-codes`` (what they mean), ``x-unit`` (of a number).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bursar.contracts.base import PRINCIPAL
from bursar.contracts.catalog import common
from bursar.contracts.catalog.base import (
    ANSWERED,
    PRINCIPAL_PLACE,
    ROLES,
    VERSION,
    Event,
    Operation,
    ServiceCatalog,
    Telling,
)
from bursar.contracts.publish.samples import sample
from bursar.contracts.publish.schema import PACKED, together
from bursar.errors import CODES

Value = dict[str, Any]
Schemas = dict[str, Value]
"""The schemas of one service's messages, by the name of the message."""

ABOUT: Final = (
    "Everything that agents, workers, host probes and operators say to the services of Bursar and hear from them. "
    "Payloads are msgpack maps; JSON is accepted too (first byte '{') and answered in JSON. Who asks is the last token "
    "of the subject, proven by the permissions of the connection, and never stands in a message. How to connect, "
    "retry, and verify broadcasts: docs/wire.md."
)


def asyncapi(catalogues: Iterable[ServiceCatalog], schemas: dict[str, Schemas]) -> Value:
    """The document. ``schemas``: by service, and under ``common`` those that all share."""
    document: Value = {
        "asyncapi": "3.0.0",
        "id": "urn:bursar",
        "info": {
            "title": "Bursar",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": PACKED,
        "servers": {"local": _SERVER},
        "channels": {},
        "operations": {},
        "components": {
            "securitySchemes": {"creds": _CREDS},
            "parameters": {"principal": _PRINCIPAL},
            "messages": {"Error": _ERROR, "Signed": _SIGNED},
            "schemas": {"Headers": _HEADERS},
        },
        "x-error-codes": {code: meaning._asdict() for code, meaning in CODES.items()},
    }
    for schema in schemas["common"].values():
        document["components"]["schemas"].update(together("common", schema))
    for catalog in catalogues:
        _add(document, catalog, schemas[catalog.name])
    return document


def _add(document: Value, catalog: ServiceCatalog, schemas: Schemas) -> None:
    parts = document["components"]
    for schema in schemas.values():
        parts["schemas"].update(together(catalog.name, schema))
    for operation in catalog.operations:
        _add_operation(document, catalog, operation)
    for event in (common.OWNER, *catalog.events):
        _add_event(document, catalog, event)
    for telling in catalog.tellings:
        _add_telling(document, catalog, telling)


def _add_operation(document: Value, catalog: ServiceCatalog, operation: Operation) -> None:
    name = ".".join(filter(None, (catalog.name, operation.kind, operation.verb)))
    subject = operation.subject(catalog.name)
    request = _message(document, catalog.name, operation.request.__name__, sample(operation))
    _add_channel(document, name, subject, [request])
    made = _operation(catalog, "send", name, [request], operation.summary)
    made["x-roles"] = list(ROLES[operation.kind])
    if operation.kind in ANSWERED:
        replies = [_message(document, catalog.name, model.__name__) for model in operation.replies]
        channel = f"{name}.reply"
        document["channels"][channel] = {
            "address": None,
            "messages": _listed([*replies, "Error"]),
        }
        made["reply"] = {
            "address": _REPLY_ADDRESS,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{reply}"} for reply in (*replies, "Error")],
        }
        made["x-errors"] = list(common.errors_of(operation))
    document["operations"][name] = made


def _add_event(document: Value, catalog: ServiceCatalog, event: Event) -> None:
    """A broadcast: the message is the signed envelope, its body has a schema of its own."""
    name = f"{catalog.name}.evt.{event.kind}"
    message = f"{catalog.name}.signed.{event.body.__name__}"
    owner = "common" if event is common.OWNER else catalog.name
    document["components"]["messages"][message] = {
        **_SIGNED,
        "title": f"{event.body.__name__}, signed",
        "x-body": {"$ref": f"#/components/schemas/{owner}.{event.body.__name__}"},
    }
    _add_channel(document, name, f"bursar.evt.{catalog.name}.{event.kind}.{{name}}", [message], {"name": event.name})
    document["operations"][name] = _operation(catalog, "receive", name, [message], event.summary)


def _add_telling(document: Value, catalog: ServiceCatalog, telling: Telling) -> None:
    name = f"{catalog.name}.assign.{telling.body.__name__}"
    message = _message(document, catalog.name, telling.body.__name__)
    _add_channel(document, name, f"bursar.assign.{PRINCIPAL_PLACE}", [message])
    document["operations"][name] = _operation(catalog, "receive", name, [message], telling.summary)


def _add_channel(
    document: Value, name: str, subject: str, messages: list[str], parameters: dict[str, str] | None = None
) -> None:
    said: Value = {key: {"description": text} for key, text in (parameters or {}).items()}
    if PRINCIPAL_PLACE in subject:
        said["principal"] = {"$ref": "#/components/parameters/principal"}
    document["channels"][name] = {
        "address": subject,
        "messages": _listed(messages),
        **({"parameters": said} if said else {}),
    }


def _operation(catalog: ServiceCatalog, action: str, channel: str, messages: list[str], summary: str) -> Value:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages],
        "summary": summary,
        "tags": [{"name": catalog.name}],
    }


def _message(document: Value, service: str, title: str, example: Value | None = None) -> str:
    """Add a message to the components unless it is there; its name."""
    name = f"{service}.{title}"
    said: Value = document["components"]["messages"].setdefault(
        name,
        {
            "name": name,
            "title": title,
            "contentType": PACKED,
            "payload": {"$ref": f"#/components/schemas/{name}"},
        },
    )
    if example is not None:
        said["examples"] = [{"payload": example}]
    return name


def _listed(messages: list[str]) -> Value:
    return {message: {"$ref": f"#/components/messages/{message}"} for message in messages}


_SERVER: Final = {
    "host": "127.0.0.1:4222",
    "protocol": "nats",
    "description": "The embedded server of `bursar up`; any NATS server from 2.15 on that trusts the same operator.",
    "security": [{"$ref": "#/components/securitySchemes/creds"}],
}

_CREDS: Final = {
    "type": "asymmetricEncryption",
    "description": "A user JWT, and the server's nonce signed with the user's Ed25519 key: both are in the .creds file "
    "that `bursar agent add NAME` writes.",
}

_PRINCIPAL: Final = {"description": f"Who asks: the name in the credentials, {PRINCIPAL}"}

_REPLY_ADDRESS: Final = {
    "location": "$message.header#/reply",
    "description": "The reply subject of the NATS message. It must begin with _R.<principal>. or nobody answers.",
}

_HEADERS: Final = {
    "type": "object",
    "required": ["Nats-Service-Error-Code", "Nats-Service-Error"],
    "properties": {
        "Nats-Service-Error-Code": {
            "type": "string",
            "description": "A number as in HTTP: 400, 403, 404, 409, 503 ...",
        },
        "Nats-Service-Error": {"type": "string", "description": "<code>: <text>"},
    },
}

_ERROR: Final = {
    "name": "Error",
    "title": "Error",
    "summary": "The request was not decided, or is wrong. What each code means: x-error-codes.",
    "contentType": PACKED,
    "headers": {"$ref": "#/components/schemas/Headers"},
    "payload": {"$ref": "#/components/schemas/common.ErrorReply"},
}

_SIGNED: Final = {
    "name": "Signed",
    "title": "Signed broadcast",
    "summary": "The envelope of every broadcast; always msgpack. The body is one packed map in the field b.",
    "contentType": PACKED,
    "payload": {"$ref": "#/components/schemas/common.Signed"},
}
