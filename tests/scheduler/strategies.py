"""What the scheduler's state machine draws from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bursar.contracts import scheduler as wire

WORKERS = {"w1": 1, "w2": 2, "w3": 3}
RULES = {
    "worker_ttl_ms": 2_000,
    "start_within_ms": 1_500,
    "max_tasks": 12,
    "max_tasks_per_principal": 9,
    "max_losses": 3,
    "min_run_ms": 200,
    "yield_within_ms": 600,
}
workers = st.sampled_from(sorted(WORKERS))
needs: st.SearchStrategy[Any] = st.sampled_from(
    [{}, {}, {}, {"labels": {"zone": "a"}}, {"ram_mib": 600}, {"gang": 2}, {"gang": 3, "ram_mib": 300},
     {"region": "eu"}, {"model": "m"}, {"batch_tokens": 3_000}]
)  # fmt: skip
hints: st.SearchStrategy[Any] = st.sampled_from(
    [None, None, {"model": "m", "prefix": ("a", "b")}, {"prefix": ("a",), "prompt_tokens": 9_000},
     {"data": {"host": "h1", "region": "eu", "bytes": 1_000_000}}, {"expected_ms": 60_000}]
)  # fmt: skip
BATCH = 4_096
RAM = 1_000
labels: st.SearchStrategy[Any] = st.sampled_from([{}, {}, {"zone": "a"}])
task_fields = st.fixed_dictionaries(
    {
        "task_class": st.sampled_from(["work", "work", "other"]),
        "payload": st.sampled_from([b"", b"xyz", {"a": 1}]),
        "priority": st.sampled_from(wire.BANDS),
        "retries": st.integers(0, 2),
        "backoff_ms": st.sampled_from([0, 400]),
        "lease_ms": st.sampled_from([1_000, 5_000]),
        "deadline_ms": st.sampled_from([None, None, 3_000]),
        "timeout_ms": st.sampled_from([None, None, 1_200]),
        "needs": needs,
        "hints": hints,
        "preemptible": st.booleans(),
        "program": st.sampled_from([None, None, "p", "q"]),
    }
)
