"""`bursar host`: leases and pools in words, sizes as people write them."""

from __future__ import annotations

import pytest

from bursar.cli.host import in_words, pool_in_words, size_of
from bursar.contracts.monitor_quota import LeaseRow, PoolRow

GiB = 2**30
ROW = LeaseRow(
    lease="1.1.7", agent="ann", host="alpha", cpu_milli=1_000, limit_cpu_milli=2_500, used_cpu_milli=2_400,
    memory_bytes=2 * GiB, limit_memory_bytes=2 * GiB, used_memory_bytes=None, disk_bytes=0, used_disk_bytes=None,
    weight=100, processes=1, held_by="cgroup", left_ms=9_000, age_ms=10,
)  # fmt: skip


def test_a_lease_is_one_line() -> None:
    """What is used of the limit, and what is guaranteed; unknown is a question mark or a dash, never 0."""
    line = in_words(ROW)
    assert line.startswith("ann on alpha: CPU 2.4 of 2.5 (1 leased), memory ")
    assert line.endswith("of 2.0 GiB (2.0 GiB leased), held by cgroup, 9 s left (1.1.7)")
    assert "disk" not in line
    assert "disk" in in_words(ROW.model_copy(update={"disk_bytes": GiB}))
    assert "CPU ? of" in in_words(ROW.model_copy(update={"used_cpu_milli": None}))
    assert "CPU" not in in_words(ROW.model_copy(update={"cpu_milli": 0, "limit_cpu_milli": 0}))


def test_a_pool_is_one_line() -> None:
    """How full it is."""
    row = PoolRow(host="alpha", pool="nats", budget_bytes=4 * GiB, used_bytes=GiB, used_permille=250, age_ms=1)
    assert pool_in_words(row) == "pool nats of alpha: 1.0 GiB of 4.0 GiB (25 %)"


@pytest.mark.parametrize(("text", "count"), [("8GiB", 8 * GiB), ("1.5 MiB", 3 * 2**19), ("1000", 1_000)])
def test_sizes_are_read(text: str, count: int) -> None:
    """In powers of 1024, or in bytes."""
    assert size_of(text) == count


@pytest.mark.parametrize("text", ["", "8GB", "-1", "x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """With how to write it."""
    with pytest.raises(ValueError, match="write it as 8GiB"):
        size_of(text)
