"""The trace: read from a file with clear errors, or generated with the published statistics."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import pytest

from bursar.demo.trace import Arrival, BadTrace, generate, read_azure, scaled

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_a_csv_is_read_in_order_of_time(tmp_path: Path) -> None:
    """Times are seconds after the first arrival, whatever the order in the file."""
    rows = "2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:17:03.9799600,4808,10\n"

    first, second = read_azure(write(tmp_path, HEADER + rows))

    assert first == Arrival(0.0, 4808, 10)
    assert second.at == pytest.approx(0.052, abs=1e-6)
    assert second[1:] == (3180, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1"),
        ("a,b\n1,2\n", "line 1"),
        (HEADER, "no requests"),
        (HEADER + "yesterday,1,2\n", "line 2"),
        (HEADER + "2023-11-16 18:17:03.97,many,2\n", "line 2"),
        (HEADER + "2023-11-16 18:17:03.97,1,2\n2023-11-16 18:17:04,-1,2\n", "line 3"),
        (HEADER + "2023-11-16 18:17:03.97,1\n", "line 2"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    """The error names the file and the line."""
    path = write(tmp_path, text)

    with pytest.raises(BadTrace, match=says) as caught:
        read_azure(path)

    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """A file that is not there is a bad trace, not a traceback."""
    with pytest.raises(BadTrace, match=r"nowhere\.csv"):
        read_azure(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("seed", range(5))
def test_generated_arrivals_have_the_published_statistics(seed: int) -> None:
    """Count, span, burstiness and both token distributions are those of the Azure code trace."""
    arrivals = generate(seed)
    gaps = [after.at - before.at for before, after in itertools.pairwise(arrivals)]
    context = statistics.quantiles([a.context_tokens for a in arrivals], n=100)
    generated = statistics.quantiles([a.generated_tokens for a in arrivals], n=100)

    assert len(arrivals) == 8819
    assert arrivals[-1].at == pytest.approx(3436.0)
    assert 11 < statistics.pstdev(gaps) / statistics.mean(gaps) < 16
    for share, wanted in ((10, 147), (25, 578), (50, 1469), (75, 2744), (90, 5186), (99, 7436)):
        assert context[share - 1] == pytest.approx(wanted, rel=0.12)
    assert max(a.context_tokens for a in arrivals) <= 7437
    for share, wanted in ((50, 13), (90, 55), (99, 249)):
        assert generated[share - 1] == pytest.approx(wanted, rel=0.25)
    assert 25 < statistics.mean(a.generated_tokens for a in arrivals) < 31


def test_the_same_seed_generates_the_same_arrivals() -> None:
    """A run can be repeated."""
    assert generate(7, requests=200) == generate(7, requests=200)
    assert generate(7, requests=200) != generate(8, requests=200)


def test_scaling_keeps_order_and_sizes() -> None:
    """Only the times change, all by the same factor."""
    arrivals = generate(1, requests=500)
    fast = scaled(arrivals, 50.0)

    assert fast[-1].at == pytest.approx(50.0)
    assert [a[1:] for a in fast] == [a[1:] for a in arrivals]
    assert fast[250].at / fast[-1].at == pytest.approx(arrivals[250].at / arrivals[-1].at)
