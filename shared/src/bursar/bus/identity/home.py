"""The home of an installation: keys, credentials and where each thing lies.

::

    <home>/keys/operator.nk account-<NAME>.nk    roots of trust: guard them
    <home>/keys/role-<role>.nk                    one scoped signing key per role
    <home>/creds/<principal>.creds                what a principal connects with
    <home>/probes/<host>.creds                    the same for this host's own probes
    <home>/sites/<site>.creds                     the same for the links of edge sites
    <home>/services/<service>/signing.nk          signs the service's broadcasts
    <home>/services/<service>/fence.key           32 random bytes: authenticates fences
    <home>/trust.json                             public keys that verify broadcasts
    <home>/revoked.json                           user keys that no longer count
    <home>/jetstream/ server.conf run/            the embedded server

Directories are 0700 and files 0600. The accounts' JWTs are not stored: they are derived from keys and from
`bursar.bus.permissions` at each start, so that a new version of the permissions takes effect by a restart and no
stale copy of them can lie around.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bursar.bus import permissions
from bursar.bus.identity import jwt, keys
from bursar.bus.signing import Signer
from bursar.contracts.base import PRINCIPAL

GiB = 1024**3
JETSTREAM_LIMITS: Mapping[str, int] = {
    "mem_storage": 16 * 1024**2,
    "disk_storage": 16 * GiB,
    "streams": 16,
    "consumer": 256,
}
"""Limits of each journal's account: bytes in memory and on disk (over all replicas), streams, consumers. The server
sets them aside: its own limits (`bursar.bus.server.config`) are those of 16 accounts."""


class HomeError(Exception):
    """The home directory cannot be used as asked; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a server needs to know to check everybody: the operator, the system account, all accounts' JWTs."""

    operator: str
    system_account: str
    accounts: dict[str, str]


class Home:
    """Paths and signatures of one installation. Make one with `create_home` or `load_home`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def keys_dir(self) -> Path:
        return self.path / "keys"

    @property
    def creds_dir(self) -> Path:
        return self.path / "creds"

    @property
    def store_dir(self) -> Path:
        return self.path / "jetstream"

    @property
    def trust_file(self) -> Path:
        """Public keys of the services' broadcasts: ``{"limiter": "<base64>"}``."""
        return self.path / "trust.json"

    def service_dir(self, service: str) -> Path:
        return self.path / "services" / service

    def creds(self, principal: str) -> Path:
        return self.creds_dir / f"{principal}.creds"

    @property
    def services(self) -> tuple[str, ...]:
        """The services that this home has principals for, in order."""
        found = (path.stem.removeprefix("role-svc-") for path in self.keys_dir.glob("role-svc-*-log.nk"))
        return tuple(sorted(name.removesuffix("-log") for name in found))

    def agents(self) -> list[str]:
        """Names of the agents that credentials have been minted for."""
        names = (path.stem for path in self.creds_dir.glob("*.creds"))
        return sorted(n for n in names if n not in permissions.RESERVED and not n.startswith("svc-"))

    def role_of(self, principal: str) -> str:
        """The role (its name) whose key signed the principal's credentials; empty when it is none of this home."""
        issuer = self.claims(principal)["iss"]
        found = (name for name in permissions.matrix(self.services) if self.has_role(name))
        return next((name for name in found if self._role_key(name).public == issuer), "")

    def trust(self) -> Trust:
        """Sign the operator's and the accounts' JWTs for a server that is about to start."""
        operator, system = keys.load(self.keys_dir / "operator.nk"), self._account_key(permissions.SYSTEM)
        roles = [role for role in permissions.matrix(self.services).values() if self.has_role(role.name)]
        accounts = {system.public: jwt.account(permissions.SYSTEM, system.public, operator)}
        for name in dict.fromkeys(role.account for role in roles):
            account = self._account_key(name)
            scopes = {self._role_key(role.name).public: role for role in roles if role.account == name}
            exports, imports = self._links(name)
            accounts[account.public] = jwt.account(
                name,
                account.public,
                operator,
                scopes=scopes,
                jetstream={} if name in {permissions.CORE, permissions.AGENTS} else JETSTREAM_LIMITS,
                max_links=permissions.UNLIMITED if name == permissions.SITE.account else 0,
                revoked=self._revoked(),
                exports=exports,
                imports=imports,
            )
        if (self.keys_dir / f"account-{permissions.AUTH}.nk").exists():
            auth = self._account_key(permissions.AUTH)
            allowed = [self._account_key(permissions.AGENTS).public]
            callout = {"auth_users": [str(self.claims("callout")["sub"])], "allowed_accounts": allowed}
            accounts[auth.public] = jwt.account(permissions.AUTH, auth.public, operator, callout=callout)
        return Trust(jwt.operator("bursar", operator, system.public), system.public, accounts)

    def _links(self, account: str) -> tuple[list[jwt.Link], list[jwt.Link]]:
        """What an account exports and what it imports (`bursar.bus.permissions` says why)."""
        key = {
            name: self._account_key(name).public for name in (permissions.CORE, permissions.AGENTS, permissions.AUDIT)
        }
        if account == permissions.AUDIT:
            handed = [there for service in self.services for there in permissions.audited(service).values()]
            return [jwt.Link("service", subject) for subject in handed], []
        for service in self.services:
            if account == permissions.journal_account(service):
                taken = [jwt.Link("service", subject, answer_ms=100) for subject in permissions.given_over(service)]
                handed_over = permissions.audited(service).items()
                return taken, [jwt.Link("service", there, key[permissions.AUDIT], here) for here, there in handed_over]
        own, other = permissions.ASKED, permissions.TOLD
        if account == permissions.CORE:
            own, other = other, own
        neighbour = key[permissions.AGENTS if account == permissions.CORE else permissions.CORE]
        posts = [
            jwt.Link("service", subject, self._account_key(permissions.journal_account(service)).public)
            for service in self.services
            for subject in permissions.given_over(service)
        ]
        heard = [jwt.Link("stream", subject, neighbour) for subject in other]
        return [jwt.Link("stream", subject) for subject in own], [*heard, *posts]

    def add_service(self, service: str) -> None:
        """Make a service's principals, account and keys; what exists is kept. Takes effect at the next start."""
        for role in permissions.of_service(service):
            self.add_role(role)
            if not self.creds(role.name).exists():
                self.mint(role.name, role)
        keys.make_private_directory(self.service_dir(service))
        signer = Signer.load_or_create(self.service_dir(service) / "signing.nk")
        if not (self.service_dir(service) / "fence.key").exists():
            keys.write_private(self.service_dir(service) / "fence.key", secrets.token_bytes(32))
        self._publish_trust(service, signer.public_key)

    def add_role(self, role: permissions.Role) -> None:
        """Make a role's signing key and its account's key unless they exist."""
        for name in (f"account-{role.account}", f"role-{role.name}"):
            keys.load_or_generate(self.keys_dir / f"{name}.nk", keys.ACCOUNT)

    def mint(self, principal: str, role: permissions.Role) -> Path:
        """Write new credentials of a principal: one local signature, no reload. Older ones are not revoked."""
        self._write_creds(self.creds(principal), principal, role)
        return self.creds(principal)

    def probe_creds(self, host: str) -> Path:
        """Credentials of this host's own probes, made when there are none. They lie apart from those of agents: who
        has the only agent of a home need not say which one it is."""
        path = self.path / "probes" / f"{host}.creds"
        if not path.exists():
            keys.make_private_directory(path.parent)
            self._write_creds(path, host, permissions.FLEET_ROLES["node"])
        return path

    def mint_site(self, site: str, agents: Iterable[str], services: Iterable[str]) -> Path:
        """New credentials for the link of an edge site, by which its ``agents`` reach these services here. If they are
        the first ones, the servers know of such links from their next start on."""
        self.add_role(permissions.SITE)
        path = self.path / "sites" / f"{site}.creds"
        keys.make_private_directory(path.parent)
        tags = [*(f"agent:{agent}" for agent in agents), *(f"service:{service}" for service in services)]
        self._write_creds(path, site, permissions.SITE, tags)
        return path

    def _write_creds(self, path: Path, principal: str, role: permissions.Role, tags: Iterable[str] = ()) -> None:
        account = self.account_id(role.account)
        user = keys.generate(keys.USER)
        token = jwt.user(principal, user.public, self._role_key(role.name), account, tags)
        keys.write_private(path, jwt.creds(token, user.seed).encode())

    def claims(self, principal: str) -> dict[str, Any]:
        """What the principal's credentials say: its key (``sub``), and when they were made (``iat``, Unix seconds)."""
        return jwt.decode(jwt.token_in(self.creds(principal).read_text()))

    def revoke(self, principal: str) -> None:
        """Note the principal's present credentials as void. A server hears of it when it starts, or is told
        (`bursar.bus.server.system`)."""
        revoked = self._revoked() | {str(self.claims(principal)["sub"]): int(time.time())}
        keys.write_private(self.path / "revoked.json", json.dumps(revoked).encode())

    def is_revoked(self, principal: str) -> bool:
        """Whether the principal's present credentials are void."""
        claims = self.claims(principal)
        return int(claims["iat"]) <= self._revoked().get(str(claims["sub"]), 0)

    def account_id(self, name: str) -> str:
        """The public key of an account."""
        return self._account_key(name).public

    def _account_key(self, name: str) -> keys.KeyPair:
        return keys.load(self.keys_dir / f"account-{name}.nk")

    def has_role(self, role: str) -> bool:
        """Whether the home can sign for a role."""
        return (self.keys_dir / f"role-{role}.nk").exists()

    def _role_key(self, role: str) -> keys.KeyPair:
        return keys.load(self.keys_dir / f"role-{role}.nk")

    def _revoked(self) -> dict[str, int]:
        path = self.path / "revoked.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _publish_trust(self, service: str, public_key: str) -> None:
        known = json.loads(self.trust_file.read_text()) if self.trust_file.exists() else {}
        if known.get(service) != public_key:
            keys.write_private(self.trust_file, json.dumps(known | {service: public_key}, indent=2).encode() + b"\n")


def create_home(path: Path, services: Iterable[str] = permissions.SERVICES) -> Home:
    """Make a home, or complete one that exists: everything there is kept, only what is missing is made."""
    home = Home(path.absolute())
    for directory in (home.path, home.keys_dir, home.creds_dir, home.store_dir, home.path / "services"):
        keys.make_private_directory(directory)
    keys.load_or_generate(home.keys_dir / "operator.nk", keys.OPERATOR)
    system = keys.load_or_generate(home.keys_dir / f"account-{permissions.SYSTEM}.nk", keys.ACCOUNT)
    for role in (*permissions.FLEET_ROLES.values(), *permissions.STAFF.values()):
        home.add_role(role)
    for service in services:
        home.add_service(service)
    _mint_staff(home, system)
    return home


def load_home(path: Path) -> Home:
    """An existing home. Raises `HomeError` when there is none."""
    home = Home(path.absolute())
    if not (home.keys_dir / "operator.nk").exists():
        raise HomeError(f"{path} holds no Bursar installation: `bursar up --home {path}` makes one")
    return home


def mint_agent(home: Home, name: str, *, role: str = "agent") -> Path:
    """Mint somebody's credentials and return their file; works while the server runs, without a reload.

    ``role``: one of `bursar.bus.permissions.FLEET_ROLES`. Raises `ValueError` for a name that cannot be an agent's or a
    role that is none of these, and `HomeError` when the agent exists and is not revoked, or when the home is older than
    the role.
    """
    permissions.check_agent_name(name)
    if role not in permissions.FLEET_ROLES:
        raise ValueError(f"{role!r} is no role of an agent: {', '.join(permissions.FLEET_ROLES)} are")
    if not home.has_role(role):
        raise HomeError(f"this home is older than the role {role!r}: start `bursar up --home {home.path}` again first")
    if home.creds(name).exists() and not home.is_revoked(name):
        raise HomeError(
            f"agent {name!r} exists ({home.creds(name)}): `bursar agent rotate {name}` makes new credentials"
        )
    return home.mint(name, permissions.FLEET_ROLES[role])


def rotate_agent(home: Home, name: str) -> Path:
    """New credentials of the same role in the same file; the old ones are void as soon as the servers hear of it. Also
    for the principals of services and operators. Raises `HomeError` when there is nobody of that name."""
    role = permissions.matrix(home.services).get(_known(home, name))
    if role is None:
        raise HomeError(f"no role of this home has signed the credentials of {name!r}")
    home.revoke(name)
    return home.mint(name, role)


def revoke_agent(home: Home, name: str) -> None:
    """Void somebody's credentials, as soon as the servers hear of it. Raises `HomeError` when there is nobody of that
    name, or it is one that an installation cannot be without."""
    _known(home, name)
    if name not in home.agents():
        raise HomeError(
            f"{name} is needed by the installation itself: `bursar agent rotate {name}` makes new credentials"
        )
    home.revoke(name)


def _known(home: Home, name: str) -> str:
    """The role of somebody who has credentials here."""
    if not re.fullmatch(PRINCIPAL, name) or not home.creds(name).exists():
        raise HomeError(f"there is no agent {name!r} in {home.path}: `bursar agent list` shows who there is")
    return home.role_of(name)


def _mint_staff(home: Home, system: keys.KeyPair) -> None:
    for name, role in permissions.STAFF.items():
        if not home.creds(name).exists():
            home.mint(name, role)
    if not home.creds("sys").exists():
        user = keys.generate(keys.USER)
        token = jwt.plain_user("sys", user.public, system, {})
        keys.write_private(home.creds("sys"), jwt.creds(token, user.seed).encode())
