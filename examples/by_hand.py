"""The same without an SDK: reserve, send, say what was used. Works for anything that a budget counts.

bursar up                                # one terminal
bursar agent add writer                  # once: writes .bursar/creds/writer.creds
python examples/by_hand.py
"""

import asyncio

import bursar


async def call_the_provider() -> tuple[int, int]:
    """Stands for any call: takes a moment and tells the tokens that it used."""
    await asyncio.sleep(0.2)
    return 870, 312


async def main() -> None:
    async with bursar.connect(name="writer") as fleet:
        try:
            async with fleet.limiter.reserve("demo", input_tokens=900, output_tokens=400, wait=30) as permit:
                permit.sent()  # raises PermitVoid when it is too late to send
                tokens_in, tokens_out = await call_the_provider()
                permit.used(input_tokens=tokens_in, output_tokens=tokens_out)
        except bursar.Refused as refused:
            print(f"no: {refused.text} {refused.advice}")
        for budget in (await fleet.limiter.status()).budgets:
            room = {name: level.headroom for name, level in budget.dimensions.items()}
            print(f"{budget.name}: {room}")


asyncio.run(main())
