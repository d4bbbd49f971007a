"""The judge: a chat-completion provider that enforces its own rate limits and counts every violation.

It is a real HTTP server in a process of its own and knows nothing of Bursar: no module in this folder imports anything
of `bursar` from outside it. It speaks the shapes of the OpenAI and Anthropic chat APIs closely enough for their
official Python SDKs, unmodified: answers, streams, errors, rate-limit headers, Retry-After.

Start it with ``python -m bursar.demo.provider --port 0 --config JSON``; it prints one JSON line with its port.

Rules that a caller may rely on:

* Input tokens are the characters of all message text (and of the system text), divided by four and rounded up.
* Output length is what the header ``X-Demo-Output-Tokens`` asks for, else drawn from the seed; ``max_tokens`` caps it.
* Every answered token is four characters long.
* The header ``Idempotency-Key`` names the job. It does not deduplicate (providers do not): it lets the judge count
  how often each job was completed.
* A call refused by a limit is a violation. It gets a 429 and uses up nothing, unless ``rejected_count`` says that
  refused calls count as requests.
* Output is charged as it is produced (streamed: chunk by chunk; else when the answer is complete), or in full at
  admission by ``max_tokens``, as ``output_charge`` says.
"""
