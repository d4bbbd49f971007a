"""Broadcasts are signed, bound to their subject, and verified once per process."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bursar.bus.codec import decode_value, encode
from bursar.bus.signing import REMEMBERED, Signer, Verifier
from bursar.errors import ServiceError

SUBJECT = "bursar.evt.breaker.state.gpu"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.generate()


@pytest.fixture
def verifier(signer: Signer) -> Verifier:
    return Verifier({"breaker": signer.public_key})


def refused(verifier: Verifier, subject: str, payload: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        verifier.open(subject, payload)
    assert caught.value.code == "bad_signature"


def test_a_signed_body_opens(signer: Signer, verifier: Verifier) -> None:
    """What the service said is what the hearer reads."""
    assert verifier.open(SUBJECT, signer.sign(SUBJECT, {"state": "open"})) == {"state": "open"}


@pytest.mark.parametrize(
    "subject",
    ["bursar.evt.breaker.state.cpu", "bursar.evt.limiter.state.gpu", "bursar.evt.breaker", "bursar.req.breaker.a", ""],
)
def test_a_true_message_cannot_be_moved(signer: Signer, verifier: Verifier, subject: str) -> None:
    """The signature covers the subject; the key is that of the service in the subject."""
    refused(verifier, subject, signer.sign(SUBJECT, {"state": "open"}))


def test_another_service_cannot_speak_for_this_one(signer: Signer) -> None:
    """A trusted key is trusted for its own subjects only."""
    other = Signer.generate()
    verifier = Verifier({"breaker": signer.public_key, "limiter": other.public_key})
    refused(verifier, SUBJECT, other.sign(SUBJECT, {"state": "open"}))
    assert verifier.refused == 1


def test_no_bit_may_change(signer: Signer, verifier: Verifier) -> None:
    """Every single byte of the payload is covered, or makes it unreadable."""
    payload = signer.sign(SUBJECT, {"state": "open"})
    for index in range(len(payload)):
        changed = bytearray(payload)
        changed[index] ^= 1
        refused(verifier, SUBJECT, bytes(changed))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"{}",
        encode({"v": 1}),
        encode({"v": 1, "b": b"", "s": b"x" * 64}),
        encode({"v": 1, "b": b"", "s": "x" * 64}),
        encode({"v": 1, "b": "text", "s": b"x" * 64}),
        encode({"v": 1, "b": b"", "s": b"x" * 63}),
        encode({"v": 2, "b": b"", "s": b"x" * 64}),
        encode({"v": 1, "b": b"", "s": b"x" * 64, "more": 1}),
        b"\x81\xa1a" * 10_000,
        b"x" * 300_000,
    ],
)
def test_anything_else_is_refused(verifier: Verifier, payload: bytes) -> None:
    """Every malformed message is one typed error."""
    refused(verifier, SUBJECT, payload)


def test_each_message_is_verified_once(signer: Signer, verifier: Verifier) -> None:
    """Hundreds of subscribers in a process cost one verification; other bytes are other messages."""
    payload = signer.sign(SUBJECT, {"revision": 1})
    for _ in range(100):
        verifier.open(SUBJECT, payload)
    verifier.open(SUBJECT, signer.sign(SUBJECT, {"revision": 2}))
    assert verifier.verified == 2


def test_the_memory_of_messages_is_bounded(signer: Signer, verifier: Verifier) -> None:
    """The oldest is forgotten first, and would be verified again."""
    verifier._seen = {(SUBJECT, b"%d" % number): {} for number in range(REMEMBERED)}
    payload = signer.sign(SUBJECT, {"revision": 1})
    verifier.open(SUBJECT, payload)
    assert len(verifier._seen) == REMEMBERED
    assert (SUBJECT, b"0") not in verifier._seen
    assert (SUBJECT, payload) in verifier._seen


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Made with mode 0600, never replaced, not read when others can read it."""
    path = tmp_path / "services" / "breaker" / "signing.nk"
    made = Signer.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.load_or_create(path).public_key == made.public_key
    with pytest.raises(FileExistsError):
        Signer.generate().save(path)
    path.chmod(0o640)
    with pytest.raises(ServiceError, match="0600"):
        Signer.load(path)


def test_instances_that_start_together_agree_on_a_key(tmp_path: Path) -> None:
    """Whoever writes first, all of them sign with the key in the file, and no draft stays."""
    path = tmp_path / "signing.nk"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Signer.load_or_create(path).public_key, range(16)))
    assert len(set(made)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["signing.nk"]


@pytest.mark.parametrize("content", [b"", b"not base64!", b"AAAA"])
def test_a_damaged_key_file_is_a_typed_error(tmp_path: Path, content: bytes) -> None:
    """And says nothing of what is in the file."""
    path = tmp_path / "signing.nk"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ServiceError):
        Signer.load(path)


@pytest.mark.parametrize("key", ["", "x", "AAAA", "é"])
def test_a_damaged_trust_map_is_a_typed_error(key: str) -> None:
    """Found when it is loaded, not at the first broadcast."""
    with pytest.raises(ServiceError):
        Verifier({"breaker": key})


def test_the_envelope_is_the_documented_one(signer: Signer) -> None:
    """v, b and s, so that others can verify it; public keys are text for a JSON file."""
    envelope = decode_value(signer.sign(SUBJECT, {"a": 1}))[0]
    assert envelope == {"v": 1, "b": encode({"a": 1}), "s": envelope["s"]}
    assert len(envelope["s"]) == 64
    assert json.loads(json.dumps({"breaker": signer.public_key}))["breaker"] == signer.public_key
