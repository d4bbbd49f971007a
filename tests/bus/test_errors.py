"""Errors: one table of codes, bounded texts, the same on both sides of the wire."""

from __future__ import annotations

import pickle  # noqa: TID251 - errors cross process borders in worker pools

import pytest

from bursar.bus import base
from bursar.errors import CODES, MAX_TEXT, BursarError, CallerError, ServiceError, make_error


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_meaning(code: str) -> None:
    """A number as in HTTP, somebody to blame, something to do; the class follows the number."""
    meaning = CODES[code]
    assert 400 <= meaning.status < 600
    assert meaning.advice.endswith(".")
    error = make_error(code, "text", {"a": 1})
    assert isinstance(error, CallerError if meaning.status < 500 else ServiceError)
    assert (error.status, error.blame, error.advice) == meaning
    assert error.facts == {"a": 1}


def test_a_code_of_a_later_version_is_still_an_error() -> None:
    """Blame follows from the number in the header."""
    assert make_error("new_code", "x", None, 418).blame == "caller"
    assert make_error("new_code", "x", None, 599).blame == "service"
    assert make_error("new_code", "x").status == 500


def test_texts_are_bounded() -> None:
    """No input can make an error long."""
    assert len(BursarError("internal", "x" * 10_000).text) == MAX_TEXT


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (base.NotConnected, "not_connected"),
        (base.RequestTimeout, "request_timeout"),
        (base.ConnectionLost, "request_timeout"),
        (base.NoResponders, "no_responders"),
        (base.ConnectFailed, "connect_failed"),
        (base.PermissionDenied, "permission_denied"),
    ],
)
def test_network_errors_say_what_they_mean(kind: type[base.BusError], code: str) -> None:
    """Without words of its own, an error has its class's first sentence."""
    error = kind(where="here")
    assert (error.code, error.facts) == (code, {"where": "here"})
    assert error.text
    assert kind("words").text == "words"


@pytest.mark.parametrize("error", [CallerError("bad_request", "no", n=1), base.NoResponders("nobody", subject="x")])
def test_errors_can_be_copied_between_processes(error: BursarError) -> None:
    """Class, code, text and facts arrive."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one line above
    assert type(copy) is type(error)
    assert (copy.code, copy.text, copy.facts) == (error.code, error.text, error.facts)
