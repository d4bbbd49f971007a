"""What the judge tells about a key: counts, and how much of each limit was in use over time."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .quota import Quota

BIN_MS = 100
"""Width of one step of the series, in milliseconds."""


def counts(quota: Quota, now: int) -> dict[str, Any]:
    """Everything that happened to a key so far, as plain numbers.

    ``violations`` counts refused calls plus overruns of output; ``wasted_*`` are tokens of admitted calls that did not
    end well (so far: a call under way is among them). ``completed_twice`` counts the extra completions of named jobs.
    """
    admitted, done = quota.admitted, quota.completed
    return {
        "admitted": admitted.calls,
        "running": quota.running,
        "running_max": quota.running_max,
        "completed": done.calls,
        "violations": len(quota.rejected_at) + quota.overruns,
        "rejected": len(quota.rejected_at),
        "overruns": quota.overruns,
        "violations_by_dimension": dict(quota.violations),
        "input_tokens": admitted.input_tokens,
        "output_tokens": admitted.output_tokens,
        "wasted_input_tokens": admitted.input_tokens - done.input_tokens,
        "wasted_output_tokens": admitted.output_tokens - done.output_tokens,
        "jobs_completed": len(quota.completions),
        "completed_twice": quota.completions.total() - len(quota.completions),
        "statuses": {str(status): count for status, count in sorted(quota.statuses.items())},
        "limits": {name: window.limit for name, window in quota.windows.items()},
        "used": {name: window.used(now) for name, window in quota.windows.items()},
    }


def series(quota: Quota, _now: int) -> dict[str, list[list[int]]]:
    """Per 100 ms in which something happened: ``[start_ms, requests, input tokens]`` admitted, ``[start_ms, output
    tokens]`` charged, and ``[start_ms, calls]`` rejected."""
    requests: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    for charge in quota.log:
        requests[charge.at_ms // BIN_MS] += 1
        tokens[charge.at_ms // BIN_MS] += charge.input_tokens
    output: Counter[int] = Counter()
    for at_ms, amount in quota.output_log:
        output[at_ms // BIN_MS] += amount
    rejected = Counter(at_ms // BIN_MS for at_ms in quota.rejected_at)
    return {
        "admitted": [[at * BIN_MS, count, tokens[at]] for at, count in sorted(requests.items())],
        "output": [[at * BIN_MS, amount] for at, amount in sorted(output.items())],
        "rejected": [[at * BIN_MS, count] for at, count in sorted(rejected.items())],
    }


def log(quota: Quota, _now: int) -> dict[str, list[list[Any]]]:
    """Every admission ``[ms, input tokens, output tokens, done, job]``, every charge of output ``[ms, tokens]`` and the
    times in ms of all refusals, in order: enough to check the counts."""
    return {
        "admitted": [[c.at_ms, c.input_tokens, c.output_tokens, int(c.done), c.job] for c in quota.log],
        "output": [[at_ms, amount] for at_ms, amount in quota.output_log],
        "rejected": [[at_ms] for at_ms in quota.rejected_at],
    }
