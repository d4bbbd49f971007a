"""The small file that remembers the highest fence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bursar.kernel.fencing import Fencer
from bursar.kernel.floor import FloorFile


def floor(directory: Path, key: bytes = b"k" * 32) -> FloorFile:
    return FloorFile(directory, "toy", 0, Fencer(key))


def test_it_remembers_the_highest_fence_only(tmp_path: Path) -> None:
    """Across restarts; a lower one is not written."""
    floor(tmp_path).write((1, 2, 30))
    floor(tmp_path).write((1, 2, 29))
    assert floor(tmp_path).read() == (1, 2, 30)
    floor(tmp_path).write((2, 1, 5))
    assert floor(tmp_path).read() == (2, 1, 5)


@pytest.mark.parametrize(
    "junk", [b"", b"\xff\xfe\x00", "1.2.3.é".encode(), b"1.2.3", b"a.b.c." + b"0" * 16, b"1.2.3.zz"]
)
def test_a_damaged_file_is_as_none(tmp_path: Path, junk: bytes) -> None:
    """It must not keep the service from starting; the next write makes it whole."""
    (tmp_path / "toy-0.fence").write_bytes(junk)
    assert floor(tmp_path).read() is None
    floor(tmp_path).write((1, 1, 1))
    assert floor(tmp_path).read() == (1, 1, 1)


def test_the_file_of_another_installation_is_as_none(tmp_path: Path) -> None:
    """Its fences say nothing about this journal."""
    floor(tmp_path, b"x" * 32).write((9, 9, 9))
    assert floor(tmp_path).read() is None


def test_writers_that_overlap_do_each_other_no_harm(tmp_path: Path) -> None:
    """A thread goes on when the task that started it was cancelled."""
    file = floor(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: file.write((1, 1, number)), range(64)))
    assert file.read() == (1, 1, 63)
