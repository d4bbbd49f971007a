"""Workloads that come with a token of Kubernetes or of an OIDC provider, and leave with the rights of a role.

The issuer is a local one: keys made for the test, served over HTTP as a provider does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bursar.bus.base import ConnectFailed
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home
from bursar.bus.server import NatsServer
from bursar.bus.server.system import tell_accounts
from bursar.callout import keys as callout_keys
from bursar.callout.keys import Found
from bursar.callout.serving import SUBJECT as SUBJECT_ASKED
from bursar.callout.serving import serve
from bursar.callout.verifying import Verifier, read_issuers
from bursar.client.errors import NoCredentials
from bursar.client.target import resolve
from tests.bus.attacker import Attacker
from tests.bus.support import eventually

SUBJECT = "system:serviceaccount:agents:searcher"


class Provider:
    """An issuer of tokens: signs with ``key``, and serves the public half."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self.name = "k1"
        self.asked = 0
        provider = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(provider.keys()).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def keys(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.name, "alg": "RS256", "use": "sig"}]}

    def token(self, key: Any = None, algorithm: str = "RS256", **changed: Any) -> str:
        now = int(time.time())
        claims = {"iss": "https://issuer.test", "aud": "bursar", "sub": SUBJECT, "exp": now + 600, "iat": now}
        told = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(told, key or self.key, algorithm, headers={"kid": self.name})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.stop()


def rules(provider: Provider, path: Path, role: str = "agent") -> Path:
    path.write_text(
        f'[[issuer]]\nissuer = "https://issuer.test"\naudience = "bursar"\njwks = "{provider.url}/keys"\n'
        f'[[issuer.rule]]\nsubject = "system:serviceaccount:agents:*"\nprefix = "k8s-"\nrole = "{role}"\n'
        '[[issuer.rule]]\nsubject = "user|lone"\nprefix = "oidc-"\nrole = "worker"\n'
    )
    return path


# ---- whose token it is


@pytest.fixture
def verifier(provider: Provider, tmp_path: Path) -> Verifier:
    return Verifier(read_issuers(rules(provider, tmp_path / "issuers.toml")))


def test_a_good_token_is_somebody_for_an_hour_at_most(provider: Provider, verifier: Verifier) -> None:
    """The name is made of the subject; the token's end is the connection's, too."""
    now = int(time.time())
    found = verifier.who(provider.token(exp=now + 600))
    assert found == Found("k8s-searcher", "agent", now + 600)
    long = verifier.who(provider.token(exp=now + 86_400))
    assert isinstance(long, Found)
    assert long.until <= now + 3_602
    assert verifier.who(provider.token(sub="user|lone")) == Found("oidc-lone", "worker", now + 600)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": 1}, "ExpiredSignature"),
        ({"exp": None}, "MissingRequiredClaim"),
        ({"sub": None}, "MissingRequiredClaim"),
        ({"aud": "somebody-else"}, "InvalidAudience"),
        ({"aud": None}, "MissingRequiredClaim"),
        ({"iss": "https://other.test"}, "nobody here trusts"),
        ({"iss": None}, "nobody here trusts"),
        ({"nbf": 2**33}, "ImmatureSignature"),
        ({"sub": "system:serviceaccount:other:searcher"}, "no rule"),
        ({"sub": "system:serviceaccount:agents:A.b"}, "makes no name"),
        ({"sub": "system:serviceaccount:agents:x*"}, "makes no name"),
        ({"sub": "system:serviceaccount:agents:" + "a" * 70}, "makes no name"),
    ],
)
def test_a_token_that_does_not_count_is_nobody(
    changed: dict[str, Any], why: str, provider: Provider, verifier: Verifier
) -> None:
    """And the reason says nothing of what stands in it."""
    found = verifier.who(provider.token(**changed))
    assert isinstance(found, str)
    assert why in found


def test_a_token_that_somebody_else_signed_is_nobody(provider: Provider, verifier: Verifier) -> None:
    """Another key, another kind of key, a secret that is the public key, and no signature at all."""
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    unsigned = jwt.encode({"iss": "https://issuer.test", "sub": SUBJECT}, "", "none", headers={"kid": "k1"})
    for token in (
        provider.token(key=other),
        provider.token(key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        provider.token(key=json.dumps(provider.keys()) * 2, algorithm="HS256"),
        unsigned,
        "",
        "a.b.c",
        "x" * 20_000,
    ):
        assert isinstance(verifier.who(token), str), token[:40]


def test_keys_are_asked_for_anew_when_the_issuer_has_another_and_not_for_each_bad_token(tmp_path: Path) -> None:
    """Nobody can make the callout ask an issuer again and again."""
    own = Provider()
    try:
        verifier = Verifier(read_issuers(rules(own, tmp_path / "i.toml")))
        assert isinstance(verifier.who(own.token()), Found)
        own.name = "k2"
        for _ in range(5):
            assert isinstance(verifier.who(own.token()), str)
        assert own.asked == 1
        keys = verifier._issuers["https://issuer.test"][1]
        keys._asked_at -= 60
        assert isinstance(verifier.who(own.token()), Found)
        assert own.asked == 2
    finally:
        own.stop()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no .*issuer"),
        ("[[issuer", "issuers.toml"),
        ('[[issuer]]\nissuer="i"\naudience="a"\n', "rule"),
        ('[[issuer]]\nissuer="i"\naudience="a"\n[[issuer.rule]]\nsubject="s"\nprefix=""\n', "prefix"),
        ('[[issuer]]\nissuer="i"\naudience="a"\n[[issuer.rule]]\nsubject="s"\nprefix="x-"\nrole="operator"\n', "role"),
    ],
)
def test_a_file_of_issuers_that_is_none_is_refused(text: str, why: str, tmp_path: Path) -> None:
    """With the place of the mistake; nobody becomes an operator this way."""
    path = tmp_path / "issuers.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        read_issuers(path)


def test_the_client_is_told_which_name_its_token_stands_for(tmp_path: Path) -> None:
    """The visitor's credentials name nobody."""
    home = create_home(tmp_path, [])
    callout_keys.enable(home)
    told = {"BURSAR_PRINCIPAL": "k8s-searcher"}
    assert resolve(None, home.creds("visitor"), None, None, told).principal == "k8s-searcher"
    with pytest.raises(NoCredentials, match="BURSAR_PRINCIPAL"):
        resolve(None, home.creds("visitor"), None, None, {})


# ---- against a real server


class Site:
    def __init__(self, server: NatsServer, home: Home, token: Path, provider: Provider) -> None:
        self.server, self.home, self.token, self.provider = server, home, token, provider

    async def join(self, principal: str = "k8s-searcher", closed: Callable[[], None] | None = None) -> NatsBus:
        visitor = self.home.creds("visitor")
        return await connect(self.server.url, visitor, principal=principal, timeout=4.0, on_closed=closed)


@pytest.fixture
async def site(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server whose callout runs, and which was running before there was one."""
    home, token, stop = create_home(tmp_path / "home", ["limiter"]), tmp_path / "token", asyncio.Event()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(NatsServer(home))
        callout_keys.enable(home)
        callout_keys.write(home, tmp_path / "callout")
        await tell_accounts([server.url], home)
        verifier = Verifier(read_issuers(rules(provider, tmp_path / "issuers.toml")))
        serving = asyncio.create_task(serve([server.url], tmp_path / "callout", verifier, stop))

        async def listens() -> bool:
            found = (await server.monitor("connz?subs=1"))["connections"]
            return any(SUBJECT_ASKED in one.get("subscriptions_list", ()) for one in found)

        deadline = time.monotonic() + 10
        while not await listens():
            assert time.monotonic() < deadline
        monkeypatch.setenv("BURSAR_TOKEN_FILE", str(token))
        yield Site(server, home, token, provider)
        stop.set()
        assert await serving == 0


@pytest.mark.integration
async def test_a_workload_with_a_token_has_the_rights_of_its_role_and_no_others(site: Site) -> None:
    """In its own name, as if its credentials had been made in the home."""
    service = await connect(site.server.url, site.home.creds("svc-limiter"), principal="svc-limiter")
    await service.subscribe("bursar.req.limiter.*.*", lambda m: service.publish(m.reply, m.subject.encode()), "q")
    site.token.write_text(site.provider.token())
    bus = await site.join()
    answer = await bus.request("bursar.req.limiter.x.k8s-searcher", b"{}", 3.0)
    assert answer.data == b"bursar.req.limiter.x.k8s-searcher"
    denied: list[str] = []
    bus.on_trouble = lambda kind, what: denied.append(what)
    for subject in (
        "bursar.req.limiter.x.bob",
        "bursar.adm.limiter.reload.k8s-searcher",
        "bursar.work.scheduler.x.k8s-searcher",
    ):
        bus.publish(subject, b"{}")
    await bus.flush()
    await eventually(lambda: len(denied) == 3)
    await bus.close()
    await service.close()


@pytest.mark.integration
async def test_nobody_gets_in_with_a_bad_token_or_with_none(site: Site, tmp_path: Path) -> None:
    """The visitor's credentials alone open nothing."""
    for text in ("", "x", site.provider.token(aud="other"), site.provider.token(exp=1)):
        site.token.write_text(text)
        with pytest.raises(ConnectFailed):
            await site.join()
    async with Attacker(site.server.url, site.home.creds("visitor")) as stranger:
        assert "closed" in await stranger.publish("bursar.req.limiter.x.k8s-searcher")


@pytest.mark.integration
async def test_a_connection_ends_with_its_token_and_comes_back_with_a_new_one(site: Site) -> None:
    """The file is read again at each connection, as Kubernetes replaces it."""
    site.token.write_text(site.provider.token(exp=int(time.time()) + 1))
    bus = await site.join()
    site.token.write_text(site.provider.token())
    await eventually(lambda: bus.counters.reconnects >= 1 and bus.is_connected, within=30.0)
    await bus.flush()
    await bus.close()
