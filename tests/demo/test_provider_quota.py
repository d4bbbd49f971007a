"""A key's limits together, with a clock of the test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bursar.demo.provider.quota import Admitted, Quota, Rejected
from bursar.demo.provider.settings import Limits, Settings, SettingsError, from_json

SETTINGS = Settings(keys={}, window_ms=1000)
LIMITS = Limits(requests=2, input_tokens=100, output_tokens=50, concurrency=2)


def admit(quota: Quota, now: int, tokens: int = 10, max_tokens: int = 5) -> int:
    verdict = quota.admit(now, tokens, max_tokens, "j")
    assert isinstance(verdict, Admitted)
    return verdict.number


def test_refused_call_uses_nothing_and_is_counted_once() -> None:
    """A call over one limit is charged to none."""
    quota = Quota(LIMITS, SETTINGS)
    assert quota.admit(0, 101, 5) == Rejected(("input_tokens",), None)
    assert [window.used(0) for window in quota.windows.values()] == [0, 0, 0]
    assert (len(quota.rejected_at), dict(quota.violations)) == (1, {"input_tokens": 1})


def test_refusal_names_every_limit_that_had_no_room_and_the_longest_wait() -> None:
    """Both exhausted limits are named, and the wait serves both."""
    quota = Quota(LIMITS, SETTINGS)
    for _ in range(2):
        quota.end(admit(quota, 0, tokens=50), done=True)
    assert quota.admit(400, 1, 1) == Rejected(("requests", "input_tokens"), 600)


def test_refused_calls_count_as_requests_when_the_provider_says_so() -> None:
    """As OpenAI does: unsuccessful requests contribute to the limit."""
    quota = Quota(LIMITS, replace(SETTINGS, rejected_count=True))
    quota.admit(0, 101, 5)
    assert quota.windows["requests"].used(0) == 1


def test_calls_under_way_are_limited_and_free_their_slot_at_the_end() -> None:
    """The third call at once is refused; when one has ended it is not."""
    quota = Quota(replace(LIMITS, requests=None), SETTINGS)
    first = admit(quota, 0)
    admit(quota, 0)
    refused = quota.admit(0, 1, 1)
    assert isinstance(refused, Rejected)
    assert refused.dimensions == ("concurrency",)
    quota.end(first, done=True)
    admit(quota, 0)
    assert quota.running_max == 2


def test_output_is_charged_as_it_is_produced_and_overruns_are_counted() -> None:
    """Admission charges no output; producing above the limit is an overrun, and then nothing more is admitted."""
    quota = Quota(LIMITS, SETTINGS)
    number = admit(quota, 0, max_tokens=1000)
    assert quota.windows["output_tokens"].used(0) == 0
    quota.produce(10, number, 50)
    assert quota.overruns == 0
    quota.produce(20, number, 1)
    assert quota.overruns == 1
    refused = quota.admit(30, 1, 1)
    assert refused == Rejected(("output_tokens",), 980)


def test_output_is_charged_by_max_tokens_at_admission_when_set() -> None:
    """The maximum counts, whatever is produced."""
    quota = Quota(LIMITS, replace(SETTINGS, output_charge="max_tokens"))
    number = admit(quota, 0, max_tokens=40)
    quota.produce(10, number, 3)
    assert quota.windows["output_tokens"].used(10) == 40


def test_extra_completions_of_one_job_are_seen() -> None:
    """Only whole answers count."""
    quota = Quota(Limits(), SETTINGS)
    for done in (True, False, True):
        quota.end(admit(quota, 0), done=done)
    assert quota.completions["j"] == 2


@pytest.mark.parametrize(
    "text",
    ['{"window": "moon"}', '{"nonsense": 1}', "[]", "{", '{"keys": {"a": {"requests": 0}}}', '{"window_ms": 0}',
     '{"episodes": [{"kind": "flood", "start_s": 0, "seconds": 1}]}'],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    """A typed error at start, not a surprise later."""
    with pytest.raises(SettingsError):
        from_json(text)
