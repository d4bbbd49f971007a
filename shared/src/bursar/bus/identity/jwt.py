"""NATS JWTs, version 2, written by ourselves: three claims and one signature are less than another dependency.

A token is ``base64url(header).base64url(claims).base64url(signature)`` without padding. It is signed with an NKey
(Ed25519): the operator signs accounts, an account (or one of its signing keys) signs users. A *scoped* signing key
carries a role's permissions in the account's JWT, and users signed by it carry none: so minting an agent is one
local signature, and the key can only ever mint that role.

Source of the format: github.com/nats-io/jwt (v2) and the NATS server's own checks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from bursar.bus.identity.keys import KeyPair, verifies
from bursar.bus.permissions import UNLIMITED, Role
from bursar.contracts.base import reply_prefix

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION = 2


class Link(NamedTuple):
    """A subject that one account exports to others, or imports. ``account``: for an import, the public key of who
    exports it; ``local``: its name here, when it is another. ``answer_ms``: for the export of a service, how long the
    server keeps in mind where an answer would go."""

    kind: Literal["service", "stream"]
    subject: str
    account: str = ""
    local: str = ""
    answer_ms: int = 5_000


class BadToken(ValueError):
    """The text is no NATS JWT, or its signature does not match its issuer."""


def encode(
    subject: str, name: str, nats: Mapping[str, Any], signer: KeyPair, seconds: int = 0, audience: str = ""
) -> str:
    """Sign claims about ``subject`` (a public key), which count for so many seconds (0: for ever)."""
    about = {**nats, "version": _VERSION}
    claims = {"iat": int(time.time()), "iss": signer.public, "name": name, "sub": subject, "nats": about}
    if audience:
        claims["aud"] = audience
    if seconds:
        claims["exp"] = int(time.time()) + seconds
    digest = hashlib.sha256(_json(claims)).digest()  # a server takes two tokens with the same id for the same token
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    body = f"{_b64(_json(_HEADER))}.{_b64(_json(claims))}"
    return f"{body}.{_b64(signer.sign(body.encode()))}"


def decode(token: str) -> dict[str, Any]:
    """The claims of a token whose signature has been checked. Raises `BadToken`."""
    try:
        body, signature = token.rsplit(".", 1)
        header, claims = (json.loads(_unb64(part)) for part in body.split("."))
        verified = header == _HEADER and verifies(claims["iss"], body.encode(), _unb64(signature))
    except (ValueError, KeyError, TypeError) as error:
        raise BadToken("not a NATS JWT") from error
    if not verified:
        raise BadToken("the signature does not match the issuer")
    return dict(claims)


def operator(name: str, key: KeyPair, system_account: str) -> str:
    """The self-signed root of trust."""
    nats = {"type": "operator", "system_account": system_account}
    return encode(key.public, name, nats, key)


def account(
    name: str,
    public_key: str,
    operator_key: KeyPair,
    *,
    scopes: Mapping[str, Role] | None = None,
    jetstream: Mapping[str, int] | None = None,
    max_connections: int = UNLIMITED,
    max_links: int = 0,
    revoked: Mapping[str, int] | None = None,
    exports: Iterable[Link] = (),
    imports: Iterable[Link] = (),
    callout: Mapping[str, list[str]] | None = None,
) -> str:
    """An account; ``scopes`` maps public signing keys to roles, ``jetstream`` holds the account's storage limits.
    ``callout``: who answers for those that knock at this account (``auth_users``), and with which ``allowed_accounts``.

    ``max_links``: connections of edge sites. ``revoked`` maps public user keys to the time (Unix seconds) up to which
    their JWTs no longer count. A subject that is given over to another account is exported there and imported here as
    a *service*: the reply subject becomes one of the server's own. What is heard of another account is imported as a
    *stream*, and stays as it is.
    """
    nats: dict[str, Any] = {
        "type": "account",
        "limits": _account_limits(max_connections) | {"leaf": max_links} | dict(jetstream or {}),
        "signing_keys": [_scope(key, role) for key, role in (scopes or {}).items()],
        "default_permissions": {"pub": {}, "sub": {}},
    }
    if given := [_export(link) for link in exports]:
        nats["exports"] = given
    if had := [_import(link) for link in imports]:
        nats["imports"] = had
    if revoked:
        nats["revocations"] = dict(revoked)
    if callout:
        nats["authorization"] = dict(callout)
    return encode(public_key, name, nats, operator_key)


def user(
    name: str, public_key: str, signer: KeyPair, account_key: str, tags: Iterable[str] = (), seconds: int = 0
) -> str:
    """A user of a scoped signing key: it carries a name and ``tags`` ("key:value", in small letters) and nothing else,
    its rights stand in the account's JWT."""
    nats: dict[str, Any] = {"type": "user", "issuer_account": account_key}
    return encode(public_key, name, nats | ({"tags": list(tags)} if tags else {}), signer, seconds)


def plain_user(name: str, public_key: str, account_key: KeyPair, rights: Mapping[str, Any]) -> str:
    """A user signed by the account's own key; without ``rights`` ("pub", "sub") the account's nature is its limit."""
    limits = {"subs": UNLIMITED, "data": UNLIMITED, "payload": UNLIMITED}
    return encode(public_key, name, {"type": "user", "pub": {}, "sub": {}, **rights, **limits}, account_key)


def visitor(name: str, public_key: str, account_key: KeyPair, publish: Iterable[str], seconds: int) -> str:
    """A user for one errand, signed by an account's own key: it may publish so much, hear its own inbox, and is void
    after so many seconds."""
    heard = {"allow": [f"{reply_prefix(name)}>"]}
    limits = {"subs": UNLIMITED, "data": UNLIMITED, "payload": UNLIMITED}
    nats = {"type": "user", "pub": {"allow": list(publish)}, "sub": heard, **limits}
    return encode(public_key, name, nats, account_key, seconds)


def creds(token: str, seed: bytes) -> str:
    """The text of a ``.creds`` file: the JWT and the seed that answers the server's challenge."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "The seed below is this principal's secret: keep the file private.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )


def token_in(creds_text: str) -> str:
    """The JWT of a ``.creds`` file. Raises `BadToken`."""
    lines = creds_text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if line.startswith("-----BEGIN NATS USER JWT-----"):
            return lines[number + 1].strip()
    raise BadToken("no user JWT in the file")


def _scope(key: str, role: Role) -> dict[str, Any]:
    template = {
        "pub": {"allow": list(role.publish)},
        "sub": {"allow": list(role.subscribe)},
        "subs": role.max_subscriptions,
        "data": UNLIMITED,
        "payload": role.max_payload,
        "allowed_connection_types": [role.connection],
    }
    return {"kind": "user_scope", "key": key, "role": role.name, "template": template}


def _export(link: Link) -> dict[str, Any]:
    told = {"name": link.subject, "subject": link.subject, "type": link.kind}
    single = {"response_type": "Singleton", "response_threshold": link.answer_ms * 1_000_000}
    return told | (single if link.kind == "service" else {})


def _import(link: Link) -> dict[str, Any]:
    told = {"name": link.subject, "subject": link.subject, "account": link.account, "type": link.kind}
    return told | ({"local_subject": link.local} if link.local else {})


def _account_limits(max_connections: int) -> dict[str, Any]:
    unlimited: Iterable[str] = ("subs", "data", "payload", "imports", "exports")
    return {**dict.fromkeys(unlimited, UNLIMITED), "wildcards": True, "disallow_bearer": True, "conn": max_connections}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
