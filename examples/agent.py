"""An agent under a budget: its calls wait in line instead of running into 429s.

bursar up                                # one terminal
bursar agent add writer                  # once: writes .bursar/creds/writer.creds
OPENAI_API_KEY=... python examples/agent.py
"""

import asyncio

import openai

import bursar


async def main() -> None:
    async with bursar.connect(name="writer") as fleet:
        client = openai.AsyncOpenAI(http_client=fleet.http_client(budget="openai"))
        answer = await client.chat.completions.create(
            model="gpt-4o-mini",
            max_tokens=200,
            messages=[{"role": "user", "content": "Why do fleets of agents need a bursar?"}],
        )
        print(answer.choices[0].message.content)


asyncio.run(main())
