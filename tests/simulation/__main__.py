"""``python -m tests.simulation --seeds 100000 --start 0 --decider limiter``: many histories, with progress.

Exit status 1 at the first broken promise (or at the end, with ``--keep-going``); each is told with its seed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation.run import DECIDERS, play

REPORT_EVERY = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--decider", choices=[*DECIDERS, "all"], default="all")
    parser.add_argument("--keep-going", action="store_true", help="play on after a broken promise")
    chosen = parser.parse_args()
    deciders = list(DECIDERS) if chosen.decider == "all" else [chosen.decider]
    began, failed = time.monotonic(), 0
    total: Counter[str] = Counter()
    for count, seed in enumerate(range(chosen.start, chosen.start + chosen.seeds), 1):
        for decider in deciders:
            try:
                total.update(play(decider, [seed]))
            except Exception:  # noqa: BLE001 - whatever it is, it broke a promise: tell it and go on
                failed += 1
                sys.stdout.write(traceback.format_exc())
                if not chosen.keep_going:
                    return 1
        if count % REPORT_EVERY == 0 or count == chosen.seeds:
            rate = count * len(deciders) / (time.monotonic() - began)
            sys.stdout.write(f"seed {seed}: {count} done, {failed} failed, {rate:.0f} histories/s\n")
            sys.stdout.flush()
    for what, number in sorted(total.items()):
        sys.stdout.write(f"{number:>12} {what}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
