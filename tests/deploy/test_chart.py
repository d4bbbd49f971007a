"""Our values for the official chart of NATS: keys that it knows, and a server that takes what comes of them."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bursar.bus.identity import create_home
from bursar.bus.server.binary import MINIMUM, usable_binary
from bursar.bus.server.bundle import Plan, server_config, write_bundle
from tests.deploy.chart import server_conf, unknown
from tests.deploy.kustomize import pod_of
from tests.deploy.test_kubernetes import ROOT, of

VALUES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kubernetes/nats/values.yaml").read_text(encoding="utf-8"))
NODES = [f"nats-{n}.nats" for n in range(3)]


def test_the_chart_knows_every_key() -> None:
    """It passes over what it does not know, so that a misspelt key is a setting that is not in force."""
    assert unknown(VALUES) == []
    wrong = copy.deepcopy(VALUES)
    wrong["config"]["jetstream"]["fileStore"]["pvc"]["storageClass"] = "fast"
    wrong["config"]["leafnode"] = {"enabled": True}
    assert unknown(wrong) == [".config.leafnode", ".config.jetstream.fileStore.pvc.storageClass"]


@pytest.mark.integration
def test_a_server_takes_the_configuration_that_the_chart_makes(tmp_path: Path) -> None:
    """`nats-server -t`, with the files of a bundle where the test has them."""
    home = create_home(tmp_path / "home")
    write_bundle(home, Plan(NODES), tmp_path / "bundle")
    values = yaml.safe_load(
        yaml.safe_dump(VALUES)
        .replace("/etc/bursar-ca", f"{tmp_path}/bundle/{NODES[0]}")
        .replace("/etc/bursar-cluster", f"{tmp_path}/bundle/{NODES[0]}")
        .replace("/etc/bursar", f"{tmp_path}/bundle/{NODES[0]}")
        .replace("/data", f"{tmp_path}/data")
        .replace("../bursar/", f"bundle/{NODES[0]}/")
    )
    config = tmp_path / "nats.conf"
    config.write_text(server_conf(values, "nats-0"))
    command = [str(usable_binary()), "-t", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_what_it_promises_is_what_the_bundles_servers_promise(tmp_path: Path) -> None:
    """Each append synced, the same limits, TLS 1.3 with certificates on both ends, whom to believe."""
    ours = server_config(create_home(tmp_path / "home"), NODES[0], NODES)
    text = server_conf(VALUES, "nats-0")
    head, _, body = text.partition("\n")
    assert head == "include ../bursar/accounts.conf;"
    theirs = json.loads("{" + body.replace("256Gi", '"256Gi"').replace("256Mi", '"256Mi"') + "}")
    for key in ("max_payload", "max_pending", "max_control_line", "max_connections", "write_deadline", "ping_interval",
                "ping_max", "port"):  # fmt: skip
        assert theirs[key] == ours[key], key
    for link, said in ((theirs["tls"], ours["tls"]), (theirs["cluster"]["tls"], ours["cluster"]["tls"])):
        assert {**link, "cert_file": 0, "key_file": 0, "ca_file": 0} == {
            **said, "cert_file": 0, "key_file": 0, "ca_file": 0,
        }  # fmt: skip
    assert theirs["jetstream"]["sync_interval"] == ours["jetstream"]["sync_interval"] == "always"
    assert theirs["cluster"]["routes"] == ours["cluster"]["routes"]
    gibibytes = int(VALUES["config"]["jetstream"]["fileStore"]["maxSize"].removesuffix("Gi"))
    assert gibibytes * 1024**3 == ours["jetstream"]["max_file_store"]
    assert VALUES["container"]["image"]["tag"].split("-")[0] == ".".join(map(str, MINIMUM))


def test_the_overlay_for_the_chart_leaves_our_servers_out_and_keeps_their_addresses() -> None:
    """Services look for the names that the chart gives."""
    kinds = ("StatefulSet", "Service", "PodDisruptionBudget", "ServiceAccount")
    assert not any("nats" in of("prod-chart", kind) for kind in kinds)
    addresses = f"tls://{VALUES['fullnameOverride']}-0.{VALUES['headlessService']['name']}:4222"
    for deployment in of("prod-chart", "Deployment").values():
        [container] = pod_of(deployment)["containers"]
        assert next(one for one in container["env"] if one["name"] == "BURSAR_URL")["value"].startswith(addresses)
    assert "nats" in of("prod-chart", "NetworkPolicy")
