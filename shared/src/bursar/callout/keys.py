"""What the callout may sign with, and the account that callers knock at.

The account AUTH holds two principals: ``callout``, which answers the server, and ``visitor``, which may say and hear
nothing at all. A workload connects with the visitor's credentials, which are no secret, and with its own token; the
server asks the callout, and gives the connection the rights of the answer. The callout has the scoped signing keys of
the roles agent, worker and node, so that whatever it answers, nobody gets more than these.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bursar.bus import permissions
from bursar.bus.identity import Home, HomeError, jwt
from bursar.bus.identity import keys as nk

ROLES: Final = ("agent", "worker", "node")
"""What a token from elsewhere can stand for."""
SHORTEST_SECONDS: Final = 5
"""What was let in has this time at least: it lies within the leeway that the end of a token is given."""
CREDS: Final = "callout.creds"


def enable(home: Home) -> None:
    """Make the account and its two principals unless they are there. Servers take the account when they start."""
    account = nk.load_or_generate(home.keys_dir / f"account-{permissions.AUTH}.nk", nk.ACCOUNT)
    for name, claims in (("callout", {"pub": {}, "sub": {}}), ("visitor", permissions.NOTHING)):
        if not home.creds(name).exists():
            user = nk.generate(nk.USER)
            token = jwt.plain_user(name, user.public, account, claims)
            nk.write_private(home.creds(name), jwt.creds(token, user.seed).encode())


@dataclass(frozen=True)
class CalloutKeys:
    """``account`` signs answers; ``roles`` sign users of ``agents``, the public key of that account."""

    account: nk.KeyPair
    agents: str
    roles: dict[str, nk.KeyPair]

    @classmethod
    def load(cls, directory: Path) -> CalloutKeys:
        """Those that `write` has written. Raises `HomeError`."""
        try:
            return cls(
                nk.load(directory / "account.nk"),
                (directory / "agents.pub").read_text().strip(),
                {role: nk.load(directory / f"role-{role}.nk") for role in ROLES},
            )
        except (OSError, ValueError) as error:
            raise HomeError(f"{directory} does not hold the keys of a callout: {error}") from None

    def answer(self, request: bytes, found: Found | str) -> bytes:
        """The answer to the server's question (a JWT): who it is, or why nobody. Raises `BadToken` for a question that
        is none."""
        asked = jwt.decode(request.decode("ascii", "replace"))
        nats: dict[str, Any] = {"type": "authorization_response"}
        user, server = str(asked["nats"]["user_nkey"]), str(asked["nats"]["server_id"]["id"])
        if isinstance(found, str):
            nats["error"] = found
        else:
            signer, seconds = self.roles[found.role], max(SHORTEST_SECONDS, found.until - int(time.time()))
            nats["jwt"] = jwt.user(found.principal, user, signer, self.agents, seconds=seconds)
        return jwt.encode(user, "", nats, self.account, audience=server).encode()


@dataclass(frozen=True)
class Found:
    """Whose token it is. ``until``: Unix seconds after which the connection is cut, to come back with a new token."""

    principal: str
    role: str
    until: int


def write(home: Home, directory: Path) -> None:
    """What a callout on another machine needs, in a directory of its own."""
    nk.make_private_directory(directory)
    agents = nk.load(home.keys_dir / f"account-{permissions.AGENTS}.nk").public
    seeds = {f"role-{role}.nk": home.keys_dir / f"role-{role}.nk" for role in ROLES}
    seeds |= {"account.nk": home.keys_dir / f"account-{permissions.AUTH}.nk", CREDS: home.creds("callout")}
    for name, path in seeds.items():
        nk.write_private(directory / name, path.read_bytes())
    nk.write_private(directory / "agents.pub", agents.encode() + b"\n")
