"""What was recorded and is said again is signed as well as ever, and is not believed."""

from __future__ import annotations

from typing import Any

from bursar.bus.newest import SAID_AT_ONCE, SUBJECTS, Newest
from bursar.bus.signing import Signer, Verifier

SUBJECT = "bursar.evt.limiter.freeze.team"
SIGNER = Signer.generate()
VERIFIER = Verifier({"limiter": SIGNER.public_key})


def said(fence: str | None, word: str = "") -> tuple[bytes, dict[str, Any]]:
    """A broadcast as it was signed, and as a verifier opens it."""
    payload = SIGNER.sign(SUBJECT, {"v": 1, "word": word, **({} if fence is None else {"fence": fence})})
    return payload, VERIFIER.open(SUBJECT, payload)


def test_a_replay_is_refused_however_well_it_is_signed() -> None:
    """The same message again, at once or after newer ones, and older ones that were not heard before."""
    newest = Newest()
    first, older = said("1.2.30.aa"), said("1.2.9.aa")
    assert newest.admits(SUBJECT, *first)
    assert not newest.admits(SUBJECT, *first)
    assert not newest.admits(SUBJECT, *older), "by number, and not by letters"
    assert newest.admits(SUBJECT, *said("1.3.31.bb"))
    assert not newest.admits(SUBJECT, *first)
    assert newest.admits(SUBJECT, *said("2.1.1.cc")), "a new incarnation goes before any number of the old one"


def test_one_decision_may_say_more_than_one_thing() -> None:
    """Each once, and not without end."""
    newest = Newest()
    words = [said("1.1.1.aa", f"word-{number}") for number in range(SAID_AT_ONCE + 1)]
    assert [newest.admits(SUBJECT, *one) for one in words] == [True] * SAID_AT_ONCE + [False]
    assert not newest.admits(SUBJECT, *words[0])


def test_subjects_do_not_hold_each_other_back() -> None:
    """And of very many the one that was not heard for longest is forgotten."""
    newest = Newest()
    payload, body = said("1.1.5.aa")
    for number in range(SUBJECTS + 1):
        assert newest.admits(f"{SUBJECT}-{number}", payload, body)
    assert not newest.admits(f"{SUBJECT}-{SUBJECTS}", payload, body)
    assert newest.admits(f"{SUBJECT}-0", payload, body)


def test_what_has_no_fence_is_older_than_what_has_one() -> None:
    """And is taken once as long as nothing else was heard."""
    newest = Newest()
    for odd in (None, "", "1.2", "a.b.c.d"):
        assert newest.admits(f"{SUBJECT}{odd}", *said(odd))
        assert not newest.admits(f"{SUBJECT}{odd}", *said(odd))
    assert newest.admits(SUBJECT, *said("1.1.1.aa"))
    assert not newest.admits(SUBJECT, *said(None))
