"""What a deployment promises, measured: in containers, with a cluster, under a flood, against those who may not.

    make bench-deploy          everything (it runs in an engine for containers, see tests/containers/engine.sh)
    make bench-deploy QUICK=1  the same with shorter phases

Writes one JSON with flat keys; each is measured in that run:

=================== =================================================================================================
image_mb_max        MB of the largest image (as the engine counts, 1 MB = 10**6 bytes)
rolling_lost        calls that failed while every instance of every service was restarted, one after the other
rolling_late        calls that took longer than 10 s meanwhile
r3_lost             acknowledged requests that are gone after the leader of three servers was killed, or stood still
r3_recover_s        the longest time without an answer then
flood_p99_ratio     p99 of the others with a flood by one principal, over that without (`bench.deploy_flood`)
permission_cases    cases of `make test-security` that ran; all of them passed
doctor_found        seeded misconfigurations that `bursar doctor` found (tests/integration/test_doctor.py)
=================== =================================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from testcontainers.core.docker_client import DockerClient

from bench import deploy_cluster, deploy_flood
from bench.figures import say, write
from tests.containers.load import DEADLINE
from tests.containers.rolling import roll_all
from tests.containers.site import running_site

IMAGES: Final = ("cli", "breaker", "gpu-manager", "limiter", "monitor", "scheduler", "nats")
SOUND: Final = "test_nothing_is_wrong"
"""Tests of the doctor of this name seed nothing."""


def images() -> dict[str, Any]:
    client = DockerClient().client
    try:
        sizes = {name: client.images.get(f"bursar/{name}").attrs["Size"] / 1e6 for name in IMAGES}
    finally:
        client.close()
    return {"image_mb_max": max(sizes.values()), **{f"image_mb_{name}": size for name, size in sizes.items()}}


def rolling(directory: Path) -> dict[str, Any]:
    with running_site(directory) as site:
        seen = asyncio.run(roll_all(site)).seen
    for service, load in seen.items():
        say(f"{service}: {load}")
    return {
        "rolling_lost": sum(len(load.lost) for load in seen.values()),
        "rolling_late": sum(len(load.late(DEADLINE)) for load in seen.values()),
        "rolling_calls": sum(len(load.took) for load in seen.values()),
        "rolling_slowest_s": max(max(load.took) for load in seen.values()),
    }


def permissions() -> dict[str, Any]:
    """`make test-security` prints how many cases ran."""
    done = subprocess.run(
        ["make", "--no-print-directory", "test-security"], capture_output=True, text=True, check=False
    )
    found = re.findall(r"(\d+) cases", done.stdout)
    if done.returncode or not found:
        raise SystemExit(
            f"make test-security ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
        )
    return {"permission_cases": int(found[-1])}


def doctor() -> dict[str, Any]:
    """Its tests seed one misconfiguration each, and fail unless it is found and nothing else."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "tests/integration/test_doctor.py",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    ended = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    seeded = [how for how, name in ended if not name.startswith(SOUND)]
    if not seeded:
        raise SystemExit(f"the tests of the doctor did not run:\n{(done.stdout + done.stderr)[-2000:]}")
    return {"doctor_found": seeded.count("PASSED"), "doctor_seeded": len(seeded)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="shorter phases of the flood")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bursar-deploy-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        for part in ("flood", "cluster", "site"):
            (directory / part).mkdir()
        say("a flood by one principal")
        phases, seconds = (5, 1.5) if options.quick else (7, 3.0)
        figures |= asyncio.run(deploy_flood.measure(directory / "flood", phases=phases, seconds=seconds))
        say("three servers, and the one that leads goes")
        figures |= asyncio.run(deploy_cluster.measure(directory / "cluster", rounds=1))
        say("containers: all services restarted under load")
        figures |= images() | rolling(directory / "site")
        say("who may say what, and what the doctor finds")
        figures |= permissions() | doctor()
    write(options.json, figures)


if __name__ == "__main__":
    main()
