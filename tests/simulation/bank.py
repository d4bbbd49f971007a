"""The bank as a workload, with a view from the clients: what was answered is in the books, and nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.kernel.decider import Decider, Fence
from tests.simulation.toy import Bank, BankDecider, Body, check_conservation
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.world import World

ACCOUNTS = ("ada", "bob", "cy")


class BankWorkload:
    name = "bank"

    def decider(self) -> Decider[Any]:
        return BankDecider()

    def start(self) -> list[Any]:
        return []

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        number = client.number + client.queries * 7
        op = ("pay", "take", "pay", "wait", "ask", "hold", "take", "pay", "burn")[abs(number) % 9]
        account = ACCOUNTS[number % 3]
        amount = 1 + abs(number) * 7919 % 40
        fields = {"op": op, "account": account, "amount": amount, "ms": abs(number) * 37 % 1_500}
        if op == "ask":
            client.queries -= 1
        return Body, fields, op == "ask"

    def last(self) -> tuple[Any, dict[str, Any]]:
        return Body, {"op": "ask", "account": "ada"}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {"seen": fence}

    def changed(self, body: Any) -> Any:
        return body.model_copy(update={"amount": body.amount + 1})

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        pass

    def check_state(self, state: Bank, now: int) -> None:
        check_conservation(state)

    def check_end(self, world: World) -> None:
        """What clients were told was paid in or taken out is so; what they were not told may be so, once."""
        if world.checker.lossy or "decided_again_by_age" in world.checker.counts or world.checker.reference is None:
            return
        state: Bank = world.checker.reference.folded.state
        told = {"pay": 0, "take": 0}
        for question, _, reply in world.clients.taken:
            if reply is not None and reply.get("ok"):
                told["take" if question.body.op == "wait" else question.body.op] = (
                    told.get("take" if question.body.op == "wait" else question.body.op, 0) + question.body.amount
                )
        untold = {"pay": 0, "take": 0}
        open_ones = [question for client in world.clients.all for question in client.open.values()]
        for question in [*world.clients.given_up, *open_ones]:
            op = "take" if question.body.op == "wait" else question.body.op
            untold[op] = untold.get(op, 0) + question.body.amount
        for op, books in (("pay", state.paid_in), ("take", state.taken_out)):
            assert told[op] <= books, f"{op}: told {told[op]}, in the books {books}"
            leaked = sum(q.body.amount for q, _, r in world.clients.taken if r is None and q.body.op in (op, "wait"))
            assert books <= told[op] + untold[op] + leaked, f"{op}: {books} > {told[op]} + {untold[op]} + {leaked}"
