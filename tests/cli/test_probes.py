"""The probes of this host: who they are, what they look at, where their credentials lie."""

from __future__ import annotations

import ctypes
import stat
from pathlib import Path

import pytest

from bursar.bus.identity import create_home, jwt, mint_agent
from bursar.cli import probes as module
from bursar.cli.probes import are_cards, host_creds, host_name, probes
from bursar.client.target import principal_of, resolve


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("build-1", "build-1"),
        ("Build_1.example.com", "build-1"),
        ("--x--", "x"),
        ("", "host"),
        ("\u00fc", "host"),
        ("ops", "host-ops"),
        ("svc-7", "host-svc-7"),
        ("a" * 80, "a" * 59),
    ],
)
def test_every_machine_has_a_name_that_a_principal_may_have(machine: str, name: str) -> None:
    """The host's own name as far as it goes; what is reserved gets a word before it."""
    assert host_name(machine) == name


def test_a_host_keeps_its_credentials_apart_from_those_of_agents(tmp_path: Path) -> None:
    """Made once; and the only agent of a home still need not say who it is."""
    home = create_home(tmp_path / "home", ["tiny"])
    creds = host_creds(home, None)
    assert creds is not None
    assert principal_of(creds) == host_name()
    assert stat.S_IMODE(creds.stat().st_mode) == 0o600
    before = creds.read_bytes()
    assert host_creds(home, None) == creds
    assert creds.read_bytes() == before
    mint_agent(home, "alice")
    assert home.agents() == ["alice"]
    assert resolve(None, None, home.path, None, {}).principal == "alice"
    issuer = jwt.decode(jwt.token_in(creds.read_text()))["iss"]
    node = jwt.decode(jwt.token_in(mint_agent(home, "other", role="node").read_text()))["iss"]
    assert issuer == node


def test_credentials_that_somebody_has_made_for_the_host_are_used(tmp_path: Path) -> None:
    """`bursar agent add HOST --role node`; an agent that only has the host's name keeps it to itself."""
    home = create_home(tmp_path / "home", ["tiny"])
    made = mint_agent(home, host_name(), role="node")
    assert host_creds(home, None) == made
    other = create_home(tmp_path / "other", ["tiny"])
    mint_agent(other, host_name(), role="agent")
    creds = host_creds(other, None)
    assert creds is not None
    assert principal_of(creds) == f"{host_name()}-host"


def test_on_a_server_that_is_not_ours_the_credentials_must_be_there(tmp_path: Path) -> None:
    """What this home would sign is nothing there."""
    home = create_home(tmp_path / "home", ["tiny"])
    there = tmp_path / "creds"
    there.mkdir()
    assert host_creds(home, there) is None
    (there / f"{host_name()}.creds").touch()
    assert host_creds(home, there) == there / f"{host_name()}.creds"


@pytest.mark.parametrize("text", ["2x24GiB", "80GiB", "2x512MiB", "80g+2x24GiB", "16x1GiB"])
def test_what_the_gpu_probe_takes_is_taken(text: str) -> None:
    """The probe itself reads it, too."""
    from bursar_gpu_manager.simulated import simulated_host

    assert are_cards(text)
    assert simulated_host("h", text).devices


@pytest.mark.parametrize("text", ["", "two", "2x", "0x24GiB", "17x1GiB", "9x1GiB+8x1GiB", "24", "2x24GiB,", "-1x1GiB"])
def test_other_cards_are_refused_before_anything_starts(text: str) -> None:
    """A probe that cannot start would be started again for ever."""
    assert not are_cards(text)


def test_gpus_are_watched_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's, or simulated ones; the host always."""
    monkeypatch.setattr(module, "nvidia_cards", lambda: 0)
    assert [probe.name for probe in probes("")] == ["host-probe"]
    monkeypatch.setattr(module, "nvidia_cards", lambda: 2)
    assert [probe.watches for probe in probes("")] == ["CPU, memory, network, disk", "2 NVIDIA GPUs"]
    simulated = probes("2x24GiB")[1]
    assert simulated.watches == "simulated GPUs: 2x24GiB"
    child = simulated.child("nats://x", Path("/c/h.creds"), 7)
    assert child.command[-4:] == ("7", "bursar_gpu_manager.node", "--simulate", "2x24GiB")
    assert child.env["BURSAR_CREDS"] == "/c/h.creds"


def test_a_host_without_a_driver_has_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library, or one that is too old to be asked, is no error."""

    def missing(_: str) -> object:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert module.nvidia_cards() == 0
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert module.nvidia_cards() == 0
