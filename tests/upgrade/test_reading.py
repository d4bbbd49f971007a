"""What older versions wrote is read by this one: journals for ever, snapshots as far back as docs/upgrading.md says."""

from __future__ import annotations

import re
import zlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.kernel.decider import Decider
from bursar.kernel.entry import VERSION, decode
from bursar.kernel.errors import CorruptEntry, CorruptSnapshot, VersionMismatch
from bursar.kernel.fold import SNAPSHOT_VERSION, Folded, Follower, converted
from bursar.kernel.snapshot import decode_manifest
from tests.upgrade.make import KEPT, history

NOTES = Path(__file__).resolve().parents[2] / "docs" / "upgrading.md"


class Kept(NamedTuple):
    """``rows``: the entries of a journal by sequence; ``snapshot``: the state that they lead to, as it was stored."""

    service: str
    version: int
    rows: list[tuple[int, bytes]]
    snapshot: bytes

    def replayed(self) -> Folded:
        follower = Follower(Folded(decider_of(self.service)))
        for sequence, payload in self.rows:
            follower.follow(sequence, payload)
        return follower.folded


def decider_of(service: str) -> Decider[Any]:
    [point] = [point for point in entry_points(group="bursar.services") if point.name == service]
    decider: Decider[Any] = point.load().decider()
    return decider


def kept() -> list[Kept]:
    return [Kept(*msgpack.unpackb(zlib.decompress(path.read_bytes()))) for path in sorted(KEPT.glob("*.bin"))]


def readable() -> dict[str, set[int]]:
    """The table of the upgrade notes: versions of snapshots that are read, by service."""
    rows = re.findall(r"^\| ([a-z-]+) \| ([\d, ]+) \|$", NOTES.read_text(), re.MULTILINE)
    return {service: {int(version) for version in versions.split(",")} for service, versions in rows}


IDS = [f"{one.service}-{one.version}" for one in kept()]


@pytest.mark.parametrize("old", kept(), ids=IDS)
def test_a_snapshot_of_an_older_version_is_read_or_refused_as_the_notes_say(old: Kept) -> None:
    """One that is read is converted to the very state that the whole journal leads to; for another the error names
    both versions, and nothing is made up."""
    decider = decider_of(old.service)
    if old.version in readable().get(old.service, set()):
        assert _state(Folded.load(decider, old.snapshot)) == _state(old.replayed())
        return
    with pytest.raises(VersionMismatch) as raised:
        Folded.load(decider, old.snapshot)
    assert raised.value.facts == {
        "found": f"{old.service} {old.version}",
        "needed": f"{old.service} {decider.version}",
    }


def _state(folded: Folded) -> Any:
    """All that is stored, but the limiter's book of what was spent: it begins with the version that keeps it."""
    values = msgpack.unpackb(folded.dump(), strict_map_key=False)
    values[-1].get("parts", {}).pop("spending", None)
    return values


@pytest.mark.parametrize("service", ["limiter", "breaker", "gpu-manager"])
def test_at_least_one_older_version_is_read(service: str) -> None:
    """There is something to upgrade from."""
    assert any(one.service == service and one.version in readable()[service] for one in kept())


def test_every_version_that_the_notes_name_leads_to_the_one_of_today() -> None:
    """The newest in each row is this one, and each other one has a conversion to the next."""
    for service, versions in readable().items():
        decider = decider_of(service)
        assert max(versions) == decider.version, f"docs/upgrading.md: {service} is at {decider.version}"
        assert versions - {decider.version} == set(getattr(decider, "conversions", {})), service


def test_a_version_that_is_not_known_is_an_error_of_its_own() -> None:
    """Entries, snapshots and manifests of the future are never guessed at."""
    service, version, rows, snapshot = history("breaker", 3)
    entry = bytearray(rows[0][1])
    assert entry[1] == VERSION
    entry[1] = VERSION + 1
    with pytest.raises(CorruptEntry, match="unknown version"):
        decode(bytes(entry))
    values = msgpack.unpackb(snapshot, strict_map_key=False)
    for place, value in ((0, SNAPSHOT_VERSION + 1), (1, "another"), (2, version + 1)):
        changed = [*values[:place], value, *values[place + 1 :]]
        with pytest.raises(VersionMismatch):
            Folded.load(decider_of(service), msgpack.packb(changed, use_bin_type=True))
    with pytest.raises(CorruptSnapshot, match="unknown version"):
        decode_manifest(msgpack.packb((2, "s", 1, b"", "", 1, 1, b"")))


def test_conversions_go_step_by_step() -> None:
    """From any older version to the next, up to this one."""

    class Third:
        name, version = "toy", 3
        conversions = {1: lambda value: [*value, "of 2"], 2: lambda value: [*value, "of 3"]}  # noqa: RUF012

    decider: Any = Third()
    assert converted(decider, 1, []) == ["of 2", "of 3"]
    assert converted(decider, 3, []) == []
    for unknown in (0, 4, "1", None):
        with pytest.raises(VersionMismatch):
            converted(decider, unknown, [])
