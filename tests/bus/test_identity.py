"""Keys, tokens and credentials on disk."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from bursar.bus.identity import BadToken, Home, HomeError, create_home, jwt, keys, load_home, mint_agent, rotate_agent
from bursar.bus.permissions import AGENT
from bursar.bus.signing import Signer, Verifier


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def claims_of(creds: Path) -> dict[str, object]:
    return jwt.decode(jwt.token_in(creds.read_text()))


def test_token_carries_its_claims_and_proves_its_issuer() -> None:
    """What was signed is what is read, and the issuer is the signer."""
    signer, subject = keys.generate(keys.ACCOUNT), keys.generate(keys.USER)
    claims = jwt.decode(jwt.encode(subject.public, "alice", {"type": "user"}, signer))
    assert (claims["iss"], claims["sub"], claims["name"]) == (signer.public, subject.public, "alice")
    assert claims["nats"] == {"type": "user", "version": 2}


def test_changed_token_is_refused() -> None:
    """One changed character of the claims breaks the signature."""
    token = jwt.encode("U" * 56, "alice", {"type": "user"}, keys.generate(keys.ACCOUNT))
    header, claims, signature = token.split(".")
    other = jwt.encode("U" * 56, "mallory", {"type": "user"}, keys.generate(keys.ACCOUNT)).split(".")[1]
    for forged in (f"{header}.{other}.{signature}", f"{header}.{claims}.{signature[::-1]}"):
        with pytest.raises(BadToken):
            jwt.decode(forged)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "....", "{}", "\x00.\x00.\x00"])
def test_what_is_no_token_is_refused_with_a_typed_error(text: str) -> None:
    """Garbage never ends in another exception than `BadToken`."""
    with pytest.raises(BadToken):
        jwt.decode(text)


def test_key_has_the_prefix_of_its_kind() -> None:
    """The first letter of a public key says what it is, for people and for the server."""
    letters = [keys.generate(kind).public[0] for kind in (keys.OPERATOR, keys.ACCOUNT, keys.USER)]
    assert letters == ["O", "A", "U"]


def test_home_is_private(tmp_path: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    home = create_home(tmp_path / "home")
    mint_agent(home, "alice")
    paths = list(home.path.rglob("*"))
    assert {mode(path) for path in paths if path.is_dir()} == {0o700}
    assert {mode(path) for path in paths if path.is_file()} == {0o600}
    assert mode(home.path) == 0o700


def test_home_has_the_principals_of_its_services(tmp_path: Path) -> None:
    """Each service gets the one that hears agents, the one that writes the journal and the one that makes streams."""
    home = create_home(tmp_path, ["limiter", "gpu-manager"])
    assert home.services == ("gpu-manager", "limiter")
    for name in home.services:
        for principal in (f"svc-{name}", f"svc-{name}-log", f"svc-{name}-provisioner"):
            assert claims_of(home.creds(principal))["name"] == principal
        assert len((home.service_dir(name) / "fence.key").read_bytes()) == 32


def test_second_creation_keeps_every_key(tmp_path: Path) -> None:
    """`create_home` on an existing home changes nothing."""
    before = {path: path.read_bytes() for path in create_home(tmp_path).path.rglob("*") if path.is_file()}
    after = {path: path.read_bytes() for path in create_home(tmp_path).path.rglob("*") if path.is_file()}
    assert after == before


def test_service_that_comes_later_is_added(tmp_path: Path) -> None:
    """A home grows with the installation; what was there stays."""
    create_home(tmp_path, ["limiter"])
    home = create_home(tmp_path, ["limiter", "breaker"])
    assert home.services == ("breaker", "limiter")
    assert set(json.loads(home.trust_file.read_text())) == {"breaker", "limiter"}


def test_trust_file_verifies_what_the_service_signs(tmp_path: Path) -> None:
    """The public keys in trust.json belong to the services' signing keys."""
    home = create_home(tmp_path)
    subject = "bursar.evt.limiter.freeze.x"
    payload = Signer.load(home.service_dir("limiter") / "signing.nk").sign(subject, {"v": 1})
    assert Verifier(json.loads(home.trust_file.read_text())).open(subject, payload) == {"v": 1}


def test_agents_credentials_carry_a_name_and_no_rights(tmp_path: Path) -> None:
    """Rights stand in the account; so a stolen role key can mint that role and nothing else."""
    home = create_home(tmp_path)
    claims = claims_of(mint_agent(home, "alice"))
    assert claims["name"] == "alice"
    assert claims["iss"] == keys.load(home.keys_dir / "role-agent.nk").public
    assert set(claims["nats"]) == {"type", "issuer_account", "version"}  # type: ignore[call-overload]


def test_account_states_the_agents_role(tmp_path: Path) -> None:
    """The server gets exactly the allow-lists of the table, for the agent's signing key."""
    home = create_home(tmp_path)
    key = keys.load(home.keys_dir / "role-agent.nk").public
    accounts = [jwt.decode(token)["nats"] for token in home.trust().accounts.values()]
    (scope,) = [scope for account in accounts for scope in account["signing_keys"] if scope["key"] == key]
    assert scope["template"]["pub"]["allow"] == list(AGENT.publish)
    assert scope["template"]["sub"]["allow"] == list(AGENT.subscribe)
    assert scope["template"]["payload"] == 65_536
    assert "resp" not in scope["template"]


def test_existing_agent_is_not_replaced_by_accident(tmp_path: Path) -> None:
    """The second `add` of a name is an error that says what to do."""
    home = create_home(tmp_path)
    first = mint_agent(home, "alice").read_bytes()
    with pytest.raises(HomeError, match="rotate alice"):
        mint_agent(home, "alice")
    assert home.creds("alice").read_bytes() == first


def test_rotated_credentials_revoke_the_old_ones(tmp_path: Path) -> None:
    """The next start of the server refuses the key that was replaced."""
    home = create_home(tmp_path)
    old = claims_of(mint_agent(home, "alice"))["sub"]
    new = claims_of(rotate_agent(home, "alice"))["sub"]
    revoked = [set(jwt.decode(token)["nats"].get("revocations", {})) for token in home.trust().accounts.values()]
    assert any(old in those for those in revoked)
    assert not any(new in those for those in revoked)


@pytest.mark.parametrize(
    "name", ["", "Alice", "a b", "a.b", "*", ">", "-a", "a" * 65, "a\n", "ops", "sys", "svc-limiter", "svc-x", "ä"]
)
def test_name_that_could_not_be_an_agents_is_refused(name: str, tmp_path: Path) -> None:
    """A name is one subject token, and nobody may be called like a service or the operators."""
    home = create_home(tmp_path)
    with pytest.raises(ValueError, match=r"not a valid name|reserved"):
        mint_agent(home, name)


def test_agents_are_listed_without_the_staff(tmp_path: Path) -> None:
    """`agent list` shows agents, not the principals of services and operators."""
    home = create_home(tmp_path)
    mint_agent(home, "bob")
    mint_agent(home, "alice")
    assert home.agents() == ["alice", "bob"]


def test_role_is_read_from_the_key_that_signed(tmp_path: Path) -> None:
    """Whoever asks for a role gets it, and the home can tell which it was."""
    home = create_home(tmp_path)
    for role in ("agent", "worker", "node", "operator", "auditor"):
        mint_agent(home, f"a-{role}", role=role)
        assert home.role_of(f"a-{role}") == role
    assert home.role_of("ops") == "operator"
    with pytest.raises(ValueError, match="no role of an agent"):
        mint_agent(home, "x", role="provisioner")


def _before_roles(home: Home) -> None:
    """As a home that was made before there were workers, probes and more services than one."""
    for pattern in ("keys/role-worker.nk", "keys/role-node.nk", "*/*scheduler*"):
        for path in home.path.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_older_home_is_completed_and_keeps_its_keys(tmp_path: Path) -> None:
    """Until then it still starts a server and mints agents, and says what a new role needs."""
    home = create_home(tmp_path)
    _before_roles(home)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.nk")}
    assert home.trust().accounts
    mint_agent(home, "alice")
    with pytest.raises(HomeError, match="bursar up"):
        mint_agent(home, "w1", role="worker")
    create_home(tmp_path)
    assert {path: path.read_bytes() for path in kept} == kept
    assert home.role_of("alice") == "agent"
    mint_agent(home, "w1", role="worker")
    assert "scheduler" in home.services


def test_missing_home_says_how_to_make_one(tmp_path: Path) -> None:
    """The error names the command."""
    with pytest.raises(HomeError, match="bursar up"):
        load_home(tmp_path / "nothing")


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private file is replaced whole or not at all, and no draft stays behind."""
    path = tmp_path / "secret"
    keys.write_private(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        keys.write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
