"""A test must be able to fail: each known mistake is switched on, and the checks must object, for the right reason."""

from __future__ import annotations

import pytest

from bursar.kernel import bugs
from bursar.kernel.journal.memory import MemoryStore
from tests.kernel.test_keeper import unfinished_is_left
from tests.simulation.run import WORKLOADS
from tests.simulation.simulator import Violation, finish
from tests.simulation.world import History

pytestmark = pytest.mark.simulation

MOST_SEEDS = 400


def is_caught(bug: str, *kinds: str, decider: str = "bank") -> bool:
    """Whether, with the bug in place, some history breaks a promise of one of these kinds."""
    with bugs.switched_on(bug):
        for seed in range(MOST_SEEDS):
            try:
                History(seed, WORKLOADS[decider]).play()
            except Violation as violation:
                if violation.kind in kinds:
                    return True
    return False


def test_seeded_bug_tail_moves_writers_head_is_caught() -> None:
    """A zombie whose head follows the tail writes into its successor's epoch."""
    assert is_caught("tail_moves_writers_head", "old_epoch")


def test_seeded_bug_reply_before_ack_is_caught() -> None:
    """An answer that leaves before its entry is stored stands for nothing."""
    assert is_caught("reply_before_ack", "reply_before_commit")


def test_seeded_bug_answers_missing_from_snapshot_is_caught() -> None:
    """After a start from a snapshot a retry is decided once more."""
    assert is_caught("answers_missing_from_snapshot", "decided_twice", "two_answers", "accepted_then_refused")


def test_seeded_bug_epoch_reused_is_caught() -> None:
    """Two owners of one epoch cannot be told apart."""
    assert is_caught("epoch_reused", "two_authors")


def test_seeded_bug_snapshot_sequence_off_by_one_is_caught() -> None:
    """A replay that begins one entry late finds a gap where there is none."""
    assert is_caught("snapshot_sequence_off_by_one", "false_alarm", "needless_recovery")


def test_seeded_bug_regression_taken_for_fencing_is_caught() -> None:
    """An owner that was refused because entries are gone must not load and go on."""
    assert is_caught("regression_taken_for_fencing", "loss_ignored")


def test_seeded_bug_fencing_taken_for_regression_is_caught() -> None:
    """An owner that was replaced must not start a new incarnation."""
    assert is_caught("fencing_taken_for_regression", "needless_recovery")


def test_seeded_bug_unknown_append_counted_twice_is_caught() -> None:
    """Repeating an append without its condition makes it land twice."""
    assert is_caught("unknown_append_counted_twice", "landed_twice")


def test_seeded_bug_refusal_changes_state_is_caught() -> None:
    """A refusal that counts as a decision leaves a gap in the numbers."""
    assert is_caught("refusal_changes_state", "chain", "replay_differs")


def test_seeded_bug_code_10164_is_no_conflict_is_caught() -> None:
    """A replicated stream's refusal that is not understood loses the batch it was for."""
    assert is_caught("code_10164_is_no_conflict", "chain", "no_answer")


def test_seeded_bug_manifest_before_chunks_is_caught() -> None:
    """A crash while a snapshot is stored must not leave one that is incomplete."""
    assert is_caught("manifest_before_chunks", "manifest_without_chunks")


def test_seeded_bug_sweep_takes_unfinished_is_caught() -> None:
    """Chunks without a manifest may belong to a snapshot that another instance is about to complete: so seldom that a
    directed history has to show it."""
    assert finish(unfinished_is_left(MemoryStore()))
    with bugs.switched_on("sweep_takes_unfinished"):
        assert not finish(unfinished_is_left(MemoryStore()))


def test_seeded_bug_sweep_takes_bases_in_use_is_caught() -> None:
    """A base has no manifest: a recovery entry refers to it, or is about to."""
    assert is_caught("sweep_takes_bases_in_use", "recovery_without_base")


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in bugs.NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name


def test_unknown_bug_cannot_be_switched_on() -> None:
    """A test that misspells its bug fails rather than passes."""
    with pytest.raises(ValueError, match="no such seeded bug"), bugs.switched_on("no_such"):
        pass
