"""What is known of a worker's life beyond a take-over.

Signs of life are held in memory; of a worker that has attempts one is journaled when half of its time to live has gone
since the last one that was (an assignment and a registration count as one). A new owner has heard nobody yet, and gives
everybody a whole time to be heard; but not for ever again: whom the journal shows to have been silent for longer than a
worker may be, while others were heard, was silent before the take-over, too. When all are, it was rather the network.
"""

from __future__ import annotations

from collections.abc import Iterable

from bursar_scheduler.task import Config, Worker


def silence(config: Config) -> int:
    """How long a worker may be silent: its time to live, and a tenth more for the drift of clocks."""
    return config.worker_ttl_ms + config.worker_ttl_ms // 10


def half_life(config: Config) -> int:
    return config.worker_ttl_ms // 2


def is_due(worker: Worker, config: Config, now: int) -> bool:
    """Whether this sign of life is to be journaled."""
    return bool(worker.attempts) and now - worker.kept_at >= half_life(config)


def heard_at(workers: Iterable[Worker], config: Config, now: int) -> dict[str, int]:
    """When each can have been heard last, for an owner that begins now; the longest silence first."""
    heard = {}
    busy = [worker for worker in workers if worker.attempts]
    latest = max((worker.kept_at for worker in busy), default=0)
    for worker in sorted(busy, key=lambda worker: worker.kept_at):
        if latest - worker.kept_at > silence(config) + half_life(config):
            heard[worker.name] = worker.kept_at + half_life(config)
    return heard | {worker.name: now for worker in workers if worker.name not in heard}
