"""Whether a fence is of a history, and how an instance remembers the highest one."""

from __future__ import annotations

from pathlib import Path

from bursar.kernel.decider import Fence
from bursar.kernel.entry import EPOCH, GENESIS, RECOVERY, decode, encode
from bursar.kernel.fencing import Fencer
from bursar.kernel.floor import FloorFile
from bursar.kernel.fold import Folded
from bursar.kernel.offices import KEEP, Offices
from tests.integration.toy_service import Counter


def _history(*begun: tuple[str, Fence]) -> Folded:
    """A folded state whose epochs began so, as (kind, (incarnation, epoch, first number))."""
    folded = Folded(Counter())
    for kind, fence in begun:
        folded.apply(decode(encode(kind, fence, b"id", 0, GENESIS)))
    return folded


def test_fence_above_the_last_decision_is_not_known() -> None:
    """The last decision is number - 1."""
    folded = _history((EPOCH, (1, 1, 1)), (EPOCH, (1, 2, 301)))
    assert folded.knows((1, 2, 300))
    assert not folded.knows((1, 2, 301))
    assert not folded.knows((1, 3, 5))


def test_lost_decision_of_an_earlier_epoch_is_not_known_although_its_fence_is_lower() -> None:
    """Epoch 1 had decided 500, an older copy knows 300, and epoch 2 went on from there: (1, 1, 500) < (1, 2, 301)."""
    folded = _history((EPOCH, (1, 1, 1)), (EPOCH, (1, 2, 301)), (EPOCH, (1, 3, 900)))
    assert folded.knows((1, 1, 300))
    assert not folded.knows((1, 1, 500))
    assert folded.knows((1, 2, 899))


def test_recovery_settles_what_was_given_out_before_it() -> None:
    """An older incarnation's fences are known, whatever their number; a newer one's are not."""
    folded = _history((EPOCH, (1, 1, 1)), (RECOVERY, (2, 2, 301)))
    assert folded.knows((1, 7, 9_000))
    assert not folded.knows((3, 1, 1))


def test_offices_survive_a_snapshot_and_are_bounded() -> None:
    """The dump carries them; only the newest are kept, and an older epoch is compared with the first of those."""
    folded = _history(*[(EPOCH, (1, epoch, epoch * 10)) for epoch in range(1, KEEP + 10)])
    loaded = Folded.load(Counter(), folded.dump())
    assert loaded.dump() == folded.dump()
    assert len(loaded.offices.dump()) == KEEP
    assert Offices.load([[5, 50], [6, 60]]).first_after(1) == 50
    assert loaded.knows((1, 2, 99))
    assert not loaded.knows((1, 2, 100))


def test_floor_never_goes_down(tmp_path: Path) -> None:
    """A lower fence is not written, by the same process or by the next one."""
    fencer = Fencer(b"k" * 32)
    FloorFile(tmp_path, "counter", 0, fencer).write((1, 2, 30))
    again = FloorFile(tmp_path, "counter", 0, fencer)
    again.write((1, 1, 99))
    assert again.read() == (1, 2, 30)
    again.write((2, 1, 1))
    assert FloorFile(tmp_path, "counter", 0, fencer).read() == (2, 1, 1)


def test_floor_of_another_installation_is_not_believed(tmp_path: Path) -> None:
    """Another key, or half a file: no floor."""
    FloorFile(tmp_path, "counter", 0, Fencer(b"k" * 32)).write((1, 2, 30))
    assert FloorFile(tmp_path, "counter", 0, Fencer(b"x" * 32)).read() is None
    (tmp_path / "counter-0.fence").write_text("1.2.")
    assert FloorFile(tmp_path, "counter", 0, Fencer(b"k" * 32)).read() is None
