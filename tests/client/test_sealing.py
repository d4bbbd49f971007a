"""What is sealed for somebody is read by them, where it was meant to be, and by nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.permissions import AGENT
from bursar.bus.signing import Signer
from bursar.client.scheduler_values import pack_value, unpack_value
from bursar.client.sealing import MAX_RECIPIENTS, Recipients, is_sealed, private_key, unseal, unseal_with
from bursar.errors import CallerError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = create_home(tmp_path_factory.mktemp("home"), ())
    for name in ("worker-1", "worker-2", "eve"):
        mint_agent(made, name)
    return made


@pytest.fixture(scope="module")
def recipients(home: Home) -> Recipients:
    path = home.path / "recipients.json"
    path.write_text(json.dumps({name: home.claims(name)["sub"] for name in home.agents()}))
    return Recipients.load(path)


def refused(code: str, value: Any, creds: Path, about: str = "") -> None:
    with pytest.raises(CallerError) as raised:
        unseal(value, creds, about)
    assert raised.value.code == code


def test_each_recipient_reads_it_and_nobody_else(home: Home, recipients: Recipients) -> None:
    """Also as a part of a payload that was packed, stored and unpacked again."""
    secret = {"api_key": "sk-1", "list": [1, None, b"x"]}
    box = recipients.seal(secret, to=["worker-1", "worker-2"])
    assert is_sealed(box)
    stored = pack_value({"prompt": "p", "key": box})
    assert b"sk-1" not in stored
    found = unpack_value(stored)["key"]
    assert [unseal(found, home.creds(name)) for name in ("worker-1", "worker-2")] == [secret, secret]
    refused("sealed_for_others", found, home.creds("eve"))


def test_a_box_opens_only_where_it_was_meant_to_be(home: Home, recipients: Recipients) -> None:
    """Moved to another task it stays closed."""
    box = recipients.seal("secret", to="worker-1", about="writer.report")
    assert unseal(box, home.creds("worker-1"), "writer.report") == "secret"
    refused("bad_seal", box, home.creds("worker-1"), "eve.report")
    refused("bad_seal", box, home.creds("worker-1"))


def test_a_changed_box_does_not_open(home: Home, recipients: Recipients) -> None:
    """Nor does what never was one."""
    box = recipients.seal("secret", to="worker-1")
    for place in range(len(box["box"])):
        changed = bytearray(box["box"])
        changed[place] ^= 1
        refused("bad_seal", {**box, "box": bytes(changed)}, home.creds("worker-1"))
    swapped = recipients.seal("other", to="worker-1")
    refused("bad_seal", {**box, "to": swapped["to"]}, home.creds("worker-1"))
    for none in (None, "text", {}, {**box, "sealed": 2}, {**box, "more": 1}, {**box, "to": {}}):
        refused("bad_seal", none, home.creds("worker-1"))


def test_new_credentials_do_not_open_what_was_sealed_for_the_old_ones(home: Home, recipients: Recipients) -> None:
    """Rotating them rotates the key."""
    box = recipients.seal("secret", to="worker-2")
    old = home.creds("worker-2").read_bytes()
    mine = home.path / "old.creds"
    mine.write_bytes(old)
    home.mint("worker-2", AGENT)
    refused("sealed_for_others", box, home.creds("worker-2"))
    assert unseal(box, mine) == "secret"
    home.creds("worker-2").write_bytes(old)


def test_a_service_has_a_key_too() -> None:
    """The one that it signs with, published in trust.json."""
    seed = bytes(range(32))
    key = private_key(seed)
    signer = Signer(SigningKey(seed))
    box = Recipients({"limiter": signer.public_key}).seal(7, to="limiter")
    assert unseal_with(box, key) == 7


def test_who_is_not_known_cannot_be_sealed_for(recipients: Recipients) -> None:
    """Nothing is sealed for some of them only."""
    for to in (["worker-1", "nobody"], [], ["worker-1"] * (MAX_RECIPIENTS + 1)):
        with pytest.raises(CallerError, match=r"no key is known of nobody|1 to 64"):
            recipients.seal("secret", to=to)
    for key in ("", "UAAA", "A" * 44, "x"):
        with pytest.raises(CallerError, match="the key of a is none"):
            Recipients({"a": key})


@pytest.mark.property
@settings(max_examples=50)
@given(
    value=st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(), st.lists, max_leaves=8)
)
def test_whatever_is_sealed_comes_out_the_same(value: Any) -> None:
    """For every value that msgpack holds."""
    seed = bytes(32)
    box = Recipients({"a": Signer(SigningKey(seed)).public_key}).seal(value, to="a", about="x")
    assert unseal_with(unpack_value(pack_value(box)), private_key(seed), "x") == value
