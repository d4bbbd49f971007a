"""The measurement of a real card: without one it says so; its steps are right about cards that exist only here."""

from __future__ import annotations

import io
import sys

import pytest

from bench import gpu_real
from bursar_gpu_manager.port import NoDevices
from bursar_gpu_manager.replayed import Replayed, header, read_trace
from bursar_gpu_manager.simulated import GIB, OutOfMemory, SimulatedHost, simulated_host

CARD = "SIM-h-0"


class SimulatedChild:
    """A process of a simulated host, with a context like that of CUDA."""

    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self.pid, self.started = host.start(foreign=True)
        host.allocate(self.pid, CARD, GIB // 2)

    def allocate(self, size: int) -> bool:
        try:
            self.host.allocate(self.pid, CARD, size)
        except OutOfMemory:
            return False
        return True

    def copy(self, seconds: float) -> int:
        self.host.work(self.pid, CARD, 60, 4_700)
        return int(seconds * 4_700 * 10**9)

    def kill(self) -> None:
        self.host.exit(self.pid, lag_ms=40)


@pytest.fixture
def host() -> SimulatedHost:
    return simulated_host("h", "H200")


def test_without_a_card_it_ends_with_a_status_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured, and nothing looks as if it had been."""

    def none() -> None:
        raise NoDevices("NVML does not start")

    monkeypatch.setattr(gpu_real, "Nvml", none)
    assert gpu_real.main(["--json", "/nowhere/x"]) == gpu_real.NO_CARD
    assert "no card was measured" in capsys.readouterr().err


def test_the_steps_say_what_the_card_does(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounting, delays, what a context takes, refusals, reconciliation; and the looks play back as a trace."""
    monkeypatch.setattr(gpu_real, "POLL_S", 0.001)
    trace = io.StringIO(header() + "\n")
    trace.seek(0, io.SEEK_END)
    bench = gpu_real.Bench(host, CARD, lambda: SimulatedChild(host), trace)
    assert bench.accounting()["adds_up"]
    rows = bench.allocation((GIB,))["allocations"]
    assert (rows[0]["given"], rows[0]["context"], rows[0]["beyond"]) == (True, GIB // 2, GIB // 2)
    killed = bench.kill(GIB)
    assert killed["pid_gone_first"]
    assert 10 <= killed["back_after_ms"] < 20_000
    told = bench.bandwidth(0.3)
    assert (told["idle"]["dram_activity"], told["copying"]["dram_activity"]) == (0, 97)
    over = bench.over_ask()
    assert (over["granted"], over["given"], over["refused"]) == (True, True, "no_room")
    assert over["driver_would_have_failed"]
    again = bench.restart(GIB)
    assert again["before"] == ["active", "active"]
    assert again["after_restart"] == ["unknown", "unknown"]
    assert again["granted_blind"] is False
    assert again["reconciled"] == ["active", "granted"]
    assert Replayed(read_trace(trace.getvalue().splitlines())).cards() == list(host.cards())


def test_a_process_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for one that uses the card."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="cannot use the card"):
        gpu_real.RealChild(0)
