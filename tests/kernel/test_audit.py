"""The checker of journals objects to everything that a journal promises not to contain."""

from __future__ import annotations

from bursar.kernel.audit import ChainCheck
from bursar.kernel.decider import Fence
from bursar.kernel.entry import BATCH, BEAT, EPOCH, GENESIS, RECOVERY, Decision, chain_hash, encode, pack_decision

ALICE = b"alice---"
BOB = b"bob-----"


class Book:
    """Writes entries as an owner would, or wrongly on purpose."""

    def __init__(self) -> None:
        self.check = ChainCheck()
        self.prev = GENESIS
        self.sequence = 0

    def write(
        self,
        kind: str,
        fence: Fence,
        *,
        author: bytes = ALICE,
        decisions: int = 0,
        time: int = 0,
        prev: bytes | None = None,
    ) -> None:
        rows = [pack_decision(Decision("a", f"s-{n}", 0, b"d", b"r", [("added", 1)])) for n in range(decisions)]
        self.sequence += 1
        entry_id = author + self.sequence.to_bytes(8, "big")
        payload = encode(kind, fence, entry_id, time, self.prev if prev is None else prev, rows)
        self.prev = chain_hash(payload)
        self.check.feed(self.sequence, payload)

    @property
    def objections(self) -> list[str]:
        return [finding.text for finding in self.check.findings if finding.bad]


def sound_book() -> Book:
    book = Book()
    book.write(EPOCH, (1, 1, 1))
    book.write(BATCH, (1, 1, 1), decisions=3, time=5)
    book.write(BEAT, (1, 1, 4), time=6)
    book.write(EPOCH, (1, 2, 4), author=BOB, time=6)
    return book


def test_a_sound_journal_has_no_findings() -> None:
    """Epochs, batches and beats that follow each other are sound, and are counted."""
    book = sound_book()

    assert book.check.findings == []
    assert (book.check.entries, book.check.decisions, book.check.events) == (4, 3, 3)


def test_a_broken_hash_is_objected_to() -> None:
    """An entry that does not follow the one before shows that something was lost or changed."""
    book = sound_book()
    book.write(BATCH, (1, 2, 4), author=BOB, decisions=1, time=7, prev=bytes(16))

    assert book.objections == ["the hash does not follow: something before was lost or changed"]


def test_missing_and_doubled_decisions_are_objected_to() -> None:
    """Decisions are numbered without gap and without repetition."""
    book = sound_book()
    book.write(BATCH, (1, 2, 6), author=BOB, decisions=1, time=7)
    book.write(BATCH, (1, 2, 6), author=BOB, decisions=1, time=7)

    assert book.objections == [
        "decision 4 was expected, 6 is there",
        "decision 7 was expected, 6 is there",
    ]


def test_two_authors_in_one_epoch_are_objected_to() -> None:
    """An epoch belongs to the instance that claimed it."""
    book = sound_book()
    book.write(BATCH, (1, 2, 4), author=ALICE, decisions=1, time=7)

    assert book.objections == ["epoch 1.2 has two authors"]


def test_an_epoch_that_nobody_claimed_is_objected_to() -> None:
    """A new epoch begins with an epoch entry, and counts up by one."""
    book = sound_book()
    book.write(BATCH, (1, 3, 4), author=BOB, decisions=1, time=7)
    book.write(EPOCH, (1, 5, 5), author=BOB, time=7)

    assert book.objections == ["epoch 3 begins without an epoch entry", "epoch 5 was claimed after epoch 3"]


def test_time_that_goes_back_is_objected_to() -> None:
    """The decider's time never goes back."""
    book = sound_book()
    book.write(BATCH, (1, 2, 4), author=BOB, decisions=1, time=2)

    assert book.objections == ["the decider's time goes back by 4 ms"]


def test_a_recovery_is_a_note_and_starts_a_higher_incarnation() -> None:
    """A recovery entry may skip numbers; one that does not raise the incarnation is wrong."""
    book = sound_book()
    book.write(RECOVERY, (2, 3, 9), author=BOB, decisions=1, time=7)

    assert book.check.is_sound
    assert [finding.text for finding in book.check.findings] == ["recovery: incarnation 1 ended at decision 3"]

    book.write(RECOVERY, (2, 4, 10), author=ALICE, time=8)

    assert not book.check.is_sound


def test_an_incarnation_without_a_recovery_is_objected_to() -> None:
    """Only a recovery entry raises the incarnation."""
    book = sound_book()
    book.write(EPOCH, (2, 3, 4), author=BOB, time=7)

    assert book.objections == ["incarnation 2 begins without a recovery entry"]


def test_bytes_that_are_no_entry_are_objected_to() -> None:
    """Whatever stands in the journal and is no entry is wrong."""
    check = ChainCheck()

    assert check.feed(1, b"\xc1 not an entry") is None
    assert not check.is_sound
