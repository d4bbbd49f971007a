"""Seeded bugs of the GPU manager: plausible mistakes, each at its place, off unless a test switches one on."""

from __future__ import annotations

from bursar.kernel.bugs import declare

NAMES = (
    "gpu_observed_ignored",
    "gpu_reserve_ignored",
    "gpu_expired_regranted_early",
    "gpu_stale_fence_renews",
    "gpu_partial_set_granted",
    "gpu_lost_device_grants",
    "gpu_ended_by_loss_is_free",
    "gpu_unknown_counts_as_zero",
    "gpu_foreign_growth_is_silent",
    "gpu_start_windows_overlap",
    "gpu_reserve_for_everybody",
    "gpu_probe_obeys_stale_orders",
    "gpu_unseen_weights_are_gone",
    "gpu_copy_outlives_its_lease",
    "gpu_dead_users_hold_weights",
    "gpu_promised_pages_are_lent",
    "gpu_held_up_reports_are_fresh",
    "gpu_named_strangers_are_hidden",
    "gpu_others_processes_are_named",
)

declare(*NAMES)
