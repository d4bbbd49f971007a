"""The arithmetic of the limiter's benchmark: what it would say of a limiter that is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from bench.limiter import judged
from bench.limiter_budgets import ALL, PEER_LIMIT, PEER_TOKENS, PEER_WINDOW_S
from bench.limiter_runs import _settled_after, _share
from bench.peers import runner
from bench.peers.adapters import PEERS
from bursar_limiter.tree import fault_of_tree
from tests.oracle.history import Charge

SECOND = 1_000_000


def test_twice_the_limit_around_a_boundary_is_told_as_such() -> None:
    """What a fixed window admits at its end and at the beginning of the next is an excess of nearly two."""
    window = PEER_WINDOW_S * SECOND
    row = judged(PEER_LIMIT, [(window - 1, PEER_TOKENS), (window, PEER_TOKENS)])
    assert row["violations"] > 0
    assert row["excess"] == 2.0
    assert judged(PEER_LIMIT, [(0, PEER_TOKENS), (window, PEER_TOKENS)])["violations"] == 0


def shift(fair_from: int) -> list[Charge]:
    """The second group begins at 0, gets a quarter, and from ``fair_from`` (ms) on a half."""
    rows = []
    for at in range(-1000, 4000, 10):
        parts = [4, 0] if at < 0 else [3, 1] if at < fair_from else [2, 2]
        for name, amount in zip(("first", "second"), parts, strict=True):
            rows.append(Charge(at * 1000, ("shared-0", name), {"input_tokens": amount}))
    return rows


def test_shares_are_fair_when_a_whole_half_second_was() -> None:
    """The time runs from the shift to the end of the first half second in which shares were within a tenth."""
    assert _share(shift(1000), 1000_000, 500_000) == 0.25
    assert 1.35 <= _settled_after(shift(1000), 0, 4 * SECOND) <= 1.5


def test_shares_that_never_become_fair_take_all_the_time_there_was() -> None:
    """The figure stays a number."""
    assert _settled_after(shift(9000), 0, 3 * SECOND) == 3.0


def test_the_budgets_are_accepted() -> None:
    """What the benchmark reloads is a set that the limiter takes."""
    assert fault_of_tree({spec.name: spec for spec in ALL}) is None


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out silently."""
    peers = object.__new__(runner.Peers)
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    assert "3.12" in str(peers.cannot_run("token_throttle"))
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert all(peers.cannot_run(name) is None for name in PEERS)


def test_missing_redis_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root and without the program there is a way out in the message."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(runner.Missing, match="apt-get install redis-server"):
        runner.redis_server()


def test_missing_environment_says_how_to_get_it(tmp_path: Path) -> None:
    """The Makefile makes it."""
    with pytest.raises(runner.Missing, match="make bench-limiter"):
        runner.Peers(tmp_path / "python", object.__new__(runner.Redis))
