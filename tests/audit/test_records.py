"""Records of the audit log, the anchors of their heads, and what is written down of a home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bursar.audit import registrar
from bursar.audit.anchors import AnchorCorrupt, add_anchor, read_anchors
from bursar.audit.checking import Check, Head
from bursar.audit.record import (
    ACT,
    GENESIS,
    GRANTS,
    AuditCorrupt,
    Record,
    decode,
    digest_of,
    encode,
    key_of,
    pack,
    unpack,
)
from bursar.bus.identity import create_home
from bursar.bus.signing import Signer

SIGNER = Signer.generate()
KEY = key_of(SIGNER.public_key)


def chain(count: int) -> list[bytes]:
    """So many records of one writer."""
    found: list[bytes] = []
    for number in range(1, count + 1):
        prev = digest_of(found[-1]) if found else GENESIS
        record = Record("limiter", number, prev, 1_000 * number, ACT, "ops", {"on": f"verb-{number}"})
        found.append(encode(record, SIGNER.seal))
    return found


def findings(payloads: list[bytes]) -> list[str]:
    check = Check({"limiter": KEY})
    for sequence, payload in enumerate(payloads, 1):
        check.feed(sequence, "bursar.audit.limiter", payload)
    return [finding.text for finding in check.findings]


def test_a_chain_is_sound_and_every_change_of_it_is_found() -> None:
    """Whether a byte was changed, a record taken out, doubled or moved."""
    rows = chain(4)
    assert findings(rows) == []
    for wrong in (rows[1:], [*rows[:2], rows[3]], [rows[1], rows[0], *rows[2:]], [*rows[:2], rows[1], *rows[2:]]):
        assert findings(wrong)
    for place in range(0, len(rows[1]), 7):
        changed = bytearray(rows[1])
        changed[place] ^= 1
        assert findings([rows[0], bytes(changed), *rows[2:]]), place


def test_a_record_under_another_writers_subject_or_key_is_found() -> None:
    """A service can feign no other one."""
    check = Check({"limiter": KEY, "breaker": key_of(Signer.generate().public_key)})
    check.feed(1, "bursar.audit.breaker", chain(1)[0])
    assert [finding.text for finding in check.findings] == ["a record of limiter stands under bursar.audit.breaker"]


def test_secrets_do_not_get_into_a_record() -> None:
    """By their names, at any depth, and by how they look, wherever they stand."""
    what = {"request": {"rules": [{"api_key": "hunter2", "note": "sk-abcdefghijklmnop"}] * 100, "limit": 5}}
    record, _, _ = decode(encode(Record("limiter", 1, GENESIS, 0, ACT, "ops", what), SIGNER.seal))
    assert record.what["request"]["limit"] == 5
    assert len(record.what["request"]["rules"]) == 100, "nothing is left out for being long"
    assert "hunter2" not in str(record)
    assert "sk-" not in str(record)


def test_grants_are_kept_small_and_without_secrets() -> None:
    """A thousand of them in the room of a hundred."""
    rows = [(n, f"agent-{n % 20}", f"s1-{n}", [f"reserved {n} of team/gpt, password=hunter2x"]) for n in range(1_000)]
    record = Record("registrar", 1, GENESIS, 0, GRANTS, "", {"decisions": pack(rows), "stand": {"limiter": 7}})
    payload = encode(record, SIGNER.seal)
    assert len(payload) < 20_000
    found, _, _ = decode(payload)
    assert [row[:3] for row in unpack(found)] == [row[:3] for row in rows]
    assert "hunter2x" not in str(unpack(found))
    with pytest.raises(AuditCorrupt):
        unpack(found._replace(what={"decisions": b"x"}))
    assert unpack(found._replace(what={})) == []


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\x92\x01\x02", b"\xc1"])
def test_what_is_no_record_is_said_to_be_none(payload: bytes) -> None:
    """With an error of its own, whatever the bytes are."""
    with pytest.raises(AuditCorrupt):
        decode(payload)


def test_anchors_are_added_and_never_changed(tmp_path: Path) -> None:
    """A line that was edited, taken out, or signed by somebody else spoils the file; so does half a line."""
    file = tmp_path / "anchors.jsonl"
    heads = {"limiter": Head(9, 4, bytes(32))}
    assert [add_anchor(file, "2026", heads, SIGNER.seal) for _ in range(3)] == [1, 2, 3]
    assert [anchor.heads for anchor in read_anchors(file, KEY)] == [heads] * 3
    assert file.stat().st_mode & 0o077 == 0
    lines = file.read_bytes().splitlines(keepends=True)
    edited = lines[1].replace(b"[9, 4", b"[9, 5")
    for wrong in ([lines[0], edited, lines[2]], [lines[0], lines[2]], lines[1:], [*lines[:2], lines[2][:-9]]):
        file.write_bytes(b"".join(wrong))
        with pytest.raises(AnchorCorrupt):
            read_anchors(file, KEY)
    file.write_bytes(b"".join(lines))
    with pytest.raises(AnchorCorrupt, match="not signed by this home"):
        read_anchors(file, key_of(Signer.generate().public_key))


def test_what_is_done_to_a_home_is_chained_and_signed(tmp_path: Path) -> None:
    """One line an act, each with the digest of the one before."""
    home = create_home(tmp_path / "home", ())
    for name in ("alice", "bob"):
        registrar.note(home, "add", name, role="agent")
    lines = [json.loads(line) for line in registrar.acts(home)]
    assert [(line["n"], line["act"], line["name"]) for line in lines] == [(1, "add", "alice"), (2, "add", "bob")]
    assert lines[0]["prev"] == ""
    assert len(lines[1]["prev"]) == 64
    assert set(registrar.keys(home)) == {"registrar", "anchor"}
