"""Other limiters, as they come from their packages, on a Redis server of this run.

They live in an environment of their own (`requirements/bench-peers*.txt`, made by the Makefile), so that nothing of
theirs is a dependency of Bursar. `adapters` has one class each and runs there, as ``python -m bench.peers.play``;
`runner` starts it from here.
"""
