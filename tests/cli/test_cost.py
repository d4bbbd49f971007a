"""The bill and the advice at the command line."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bursar.bus.call import Call
from bursar.bus.codec import decode_value
from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.cli import cost
from bursar.contracts.monitor_costs import AdviceRow, CostRow, SavingRow
from bursar.contracts.monitor_picture import Section


def row(agent: str, micros: int | None, **more: Any) -> CostRow:
    told = {"team": "red", "model": "gpt", "task_class": "", "source": "api", "by": "settled", "slot_ms": 0, **more}
    return CostRow(agent=agent, usd_micros=micros, calls=2, input_tokens=1_000, output_tokens=10, **told)


def test_sums_are_made_by_any_name_and_say_what_is_not_known() -> None:
    """The dearest first, then all of it; at least so much where something has no price."""
    rows = [row("ann", 5_000_000), row("bob", None), row("bob", 7_000_000, model="", slot_ms=7_200_000)]
    assert cost.totals(rows, cost.WAYS["agent"]) == [
        ["bob", "$7.00?", "4", "2,000", "20", "2.0 h"],
        ["ann", "$5.00", "2", "1,000", "10", "0 s"],
        ["all", "$12.00?", "6", "3,000", "30", "2.0 h"],
    ]
    assert [line[0] for line in cost.totals(rows, cost.WAYS["model"])] == ["(own slots)", "gpt", "all"]


def test_money_is_told_as_exactly_as_it_matters() -> None:
    """Cents from a dollar on; a loss has its sign; what is not known is no 0."""
    assert [cost.dollars(micros) for micros in (1_234_560_000, 1_500, 16, 0, -2_000_000, None)] == [
        "$1,234.56", "$0.0015", "$0.000016", "$0.00", "-$2.00", "?",
    ]  # fmt: skip


async def test_a_long_bill_is_asked_for_page_by_page() -> None:
    """Until nothing is left out."""
    network, rows = MemoryNetwork(), [row(f"agent-{number}", number).model_dump() for number in range(5)]

    def answer(call: Call) -> None:
        offset = decode_value(call.data)[0]["offset"]
        sections: dict[str, Any] = {name: [] for name in get_args(Section)}
        sections["costs"] = rows[offset : offset + 2]
        left = {"costs": len(rows) - offset - 2} if offset + 2 < len(rows) else {}
        call.respond_value({"v": 1, "ok": True, "now_ms": 1, "sources": {}, **sections, "left_out": left, "fence": "f"})

    monitor = Service(network.connect("svc-monitor"), "monitor", "1.0.0", "It sees.", instance="m-1")
    endpoint = await monitor.add_endpoint("status", "bursar.req.monitor.status.*", answer)
    await endpoint.listen()
    found = await cost.rows_of(network.connect("ops"), "costs")
    assert [one.agent for one in found] == [f"agent-{number}" for number in range(5)]
    await monitor.stop()


def test_pages_of_text_have_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stand below one another; assumptions are said in full; nothing is not an empty table."""
    saved = SavingRow(saving="spot", usd_micros=900_000, actual=100_000, counterfactual=1_000_000, text="As if.")
    advice = AdviceRow(
        kind="cpu", subject="host-a", unit="CPU thousandths", requested=8_000, used_p50=900, used_p95=1_000,
        used_most=1_100, advised=1_177, count=1, saving_micros=None, readings=99, text="p95.",
    )  # fmt: skip
    told: dict[str, list[Any]] = {"costs": [row("ann", 5_000_000)], "savings": [saved], "advice": [advice]}
    monkeypatch.setattr(cost, "_target", lambda *_: None)
    monkeypatch.setattr(cost, "_asked", lambda _, sections: [told[section] for section in sections])
    cost.cost(by="team")
    cost.advise()
    text = capsys.readouterr().out
    assert "by team  money  calls  tokens in  tokens out  slot time" in text
    assert "red      $5.00      2      1,000          10        0 s" in text
    assert "spot           $0.9000  $0.1000      $1.00  As if." in text
    assert "host-a" in text
    assert "1,177" in text
    told["costs"] = []
    cost.cost(by="agent")
    assert "nothing is known yet" in capsys.readouterr().out
