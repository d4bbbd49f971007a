"""Money: prices, the bill, savings and advice; words of the monitor's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts.catalog.base import Word

_MICROS: Final = "millionths of a US dollar"
_HOUR: Final = "millionths of a US dollar an hour"

WORDS: Final = {
    "costs": Word("What was spent since the ledgers began, the dearest first."),
    "SetRules.costs": Word("What things cost; null: it stays."),
    "savings": Word("What was saved against another way, with what is assumed."),
    "advice": Word("What should be asked for, from what was used, and what that saves."),
    "prices": Word("What tokens cost, by budget; the first that covers a budget counts."),
    "Price.budgets": Word("Budgets: a name, or the beginning of one and an asterisk."),
    "Price.name": Word("Names the price."),
    "Price.model": Word("What the bill calls it; empty: the budget's own name."),
    "Price.team": Word("Whose it is on the bill; empty: the budget above it."),
    "input_micros": Word("A million tokens of prompts; null: not known.", _MICROS),
    "output_micros": Word("A million tokens of answers; null: not known.", _MICROS),
    "reference": Word("The price that all calls are compared with; null: none."),
    "gpu_slot_hour_micros": Word("A slot of a GPU worker that names no price; null: not known.", _HOUR),
    "cpu_slot_hour_micros": Word("A slot of a CPU worker that names no price; null: not known.", _HOUR),
    "remote_slot_hour_micros": Word("A slot of a remote worker that names no price; null: not known.", _HOUR),
    "gpu_gib_hour_micros": Word("A GiB of a GPU; null: not known.", _HOUR),
    "cpu_hour_micros": Word("A CPU; null: not known.", _HOUR),
    "memory_gib_hour_micros": Word("A GiB of memory; null: not known.", _HOUR),
    "spot_discount_permille": Word("How much cheaper a slot is that may be taken away.", "thousandths"),
    "spot_losses_permille": Word("How many of these are taken away in an hour.", "thousandths"),
    "spot_lost_s": Word("Work that is lost with one.", "s"),
    "CostRow.agent": Word("Who has spent it."),
    "CostRow.team": Word("Its team; empty: not known."),
    "CostRow.model": Word("What was called; empty: own slots."),
    "CostRow.task_class": Word("Class of the tasks; empty: called directly."),
    "CostRow.source": Word("Calls of a provider (api), or slots of workers (slots)."),
    "CostRow.usd_micros": Word("What it cost; null: nobody has said.", _MICROS),
    "CostRow.calls": Word("Calls, or attempts.", "calls"),
    "CostRow.input_tokens": Word("Tokens of prompts.", "tokens"),
    "CostRow.output_tokens": Word("Tokens of answers.", "tokens"),
    "CostRow.slot_ms": Word("Time of slots.", "ms"),
    "CostRow.by": Word("Where the sum is from: settled, prices, worker, rate, unknown."),
    "CostRow.shared": Word("Calls of a worker, told to those whose tasks it ran."),
    "saving": Word("Against what: models, own slots, spot."),
    "SavingRow.usd_micros": Word("What was saved, below zero a loss; null: it cannot be told.", _MICROS),
    "actual": Word("What was spent; null: not known.", _MICROS),
    "counterfactual": Word("What would have been spent; null: not known.", _MICROS),
    "SavingRow.text": Word("What is assumed, in words."),
    "AdviceRow.kind": Word("gpu_memory, cpu, memory, slots, or spot."),
    "AdviceRow.subject": Word("Whose: who holds the leases and for what, the host, the pool."),
    "AdviceRow.unit": Word("Unit of the numbers of this row."),
    "AdviceRow.requested": Word("What is asked for, or there.", "of the row"),
    "AdviceRow.used_p50": Word("Median of what is used; null: not known.", "of the row"),
    "AdviceRow.used_p95": Word("What is used at most in 95 of 100 looks; null: not known.", "of the row"),
    "AdviceRow.used_most": Word("The most that was used; null: not known.", "of the row"),
    "AdviceRow.advised": Word("What should be asked for; null: not looked at often enough.", "of the row"),
    "AdviceRow.count": Word("How many of it there are.", "pieces"),
    "AdviceRow.saving_micros": Word("What that saves, for all of them; null: there is no price.", _HOUR),
    "AdviceRow.readings": Word("How often it was looked at.", "readings"),
    "AdviceRow.text": Word("Why, in words."),
    "WorkerRow.preemptible": Word("Whether its host may be taken away (spot)."),
    "ScaleRow.workers": Word("Names of its workers: one, or the beginning and an asterisk."),
}
