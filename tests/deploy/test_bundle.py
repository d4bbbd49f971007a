"""The bundle: what each recipient gets, and that it is enough, and no more."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification
from typer.testing import CliRunner

from bursar.bus.identity import Home, HomeError, create_home, mint_agent
from bursar.bus.identity.certificates import issue
from bursar.bus.permissions import SERVICES
from bursar.bus.server import bundle
from bursar.bus.server.binary import usable_binary
from bursar.bus.server.bundle import Plan, server_config, write_bundle
from bursar.cli.main import build

PEM = {"ca.pem", "cert.pem", "key.pem"}
NODES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = create_home(tmp_path_factory.mktemp("home"))
    mint_agent(made, "alice")
    return made


@pytest.fixture(scope="module")
def made(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    write_bundle(home, Plan(NODES, agents=("alice",)), directory)
    return directory


def test_each_recipient_gets_its_own_and_nothing_else(made: Path) -> None:
    """No key that signs others is in it."""
    found = {place.name: {file.name for file in place.iterdir()} for place in made.iterdir()}
    service = PEM | {"service.creds", "log.creds", "signing.nk", "fence.key"}
    assert found == {
        **{node: PEM | {"server.conf", "accounts.conf"} for node in NODES},
        **dict.fromkeys(SERVICES, service),
        "provisioner": PEM
        | {f"{name}-provisioner.creds" for name in ("audit", *(f"svc-{service}" for service in SERVICES))},
        "operator": PEM | {"ops.creds", "trust.json"},
        "alice": PEM | {"agent.creds", "trust.json"},
    }


def test_only_the_owner_can_read_it(made: Path) -> None:
    """Directories 0700, files 0600."""
    for path in made.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_certificate_stands_for_its_name_alone(home: Home, made: Path) -> None:
    """A server's carries where it is reached; a client's cannot be a server's."""
    context = ssl.create_default_context(cafile=str(made / "n1/ca.pem"))
    authority = x509.load_pem_x509_certificate((made / "n1/ca.pem").read_bytes())
    policy = verification.PolicyBuilder().store(verification.Store([authority]))
    for name in (*NODES, *SERVICES, "alice"):
        context.load_cert_chain(made / name / "cert.pem", made / name / "key.pem")
        cert = x509.load_pem_x509_certificate((made / name / "cert.pem").read_bytes())
        policy.build_client_verifier().verify(cert, [])
        if name in NODES:
            policy.build_server_verifier(x509.DNSName(name)).verify(cert, [])
        else:
            with pytest.raises(verification.VerificationError):
                policy.build_server_verifier(x509.DNSName(name)).verify(cert, [])
    cert = x509.load_pem_x509_certificate((made / "n2/cert.pem").read_bytes())
    reached = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in reached] == ["n2", "localhost", "127.0.0.1"]


@pytest.mark.parametrize("name", ["", "a b", "x\ny", "a,DNS:evil", "-x", "x" * 65])
def test_a_name_that_cannot_stand_in_a_certificate_is_refused(home: Home, name: str) -> None:
    """Before anything is made."""
    with pytest.raises(HomeError, match="certificate"):
        issue(home, name)
    with pytest.raises(HomeError, match="certificate"):
        issue(home, "server", [name])


@pytest.mark.integration
@pytest.mark.parametrize("nodes", [NODES[:1], NODES])
def test_the_server_accepts_its_configuration(
    home: Home, nodes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nats-server -t`, with the files where the test has them."""
    monkeypatch.setattr(bundle, "MOUNT", str(tmp_path / "n1"))
    write_bundle(home, Plan(nodes), tmp_path)
    command = [str(usable_binary()), "-t", "-c", str(tmp_path / "n1/server.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_every_link_of_a_server_asks_for_a_certificate_with_tls_13(home: Home) -> None:
    """Clients and routes; the monitoring page is for the machine itself; each append is synced."""
    config = server_config(home, "n1", NODES)
    for link in (config["tls"], config["cluster"]["tls"]):
        assert (link["verify"], link["min_version"]) == (True, "1.3")
    assert config["http"].startswith("127.0.0.1:")
    assert config["jetstream"]["sync_interval"] == "always"
    assert config["cluster"]["routes"] == [f"tls://{node}:6222" for node in NODES]
    assert "cluster" not in server_config(home, "n1", ["n1"])


def test_making_it_again_keeps_who_is_who_and_renews_certificates(tmp_path: Path) -> None:
    """By the command, which also adds the agents that it is told of."""
    command = ["deploy", "bundle", "--home", str(tmp_path / "h"), "--to", str(tmp_path / "b"), "--agent", "gpu-1:node"]
    seen = []
    for _ in range(2):
        done = CliRunner().invoke(build(["bursar.cli.deploy"]), command)
        assert done.exit_code == 0, done.output
        assert str(tmp_path / "b/gpu-1") in done.output
        seen.append({str(p.relative_to(tmp_path)): p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()})
    kept = [name for name, content in seen[0].items() if seen[1][name] == content]
    assert {Path(name).name for name in kept} >= {"ca.pem", "agent.creds", "service.creds", "fence.key", "signing.nk"}
    assert {Path(name).name for name in seen[0].keys() - kept} - {"server.conf", "accounts.conf"} == {
        "cert.pem",
        "key.pem",
    }
    assert Home(tmp_path / "h").role_of("gpu-1") == "node"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--owner", "root"], "two numbers"),
        (["--owner", "1"], "two numbers"),
        (["--agent", "Bad Name"], "certificate"),
        (["--agent", "x:king"], "no role"),
        (["--node", "a_b"], "certificate"),
        (["--node", "limiter"], "twice"),
        (["--node", "n1", "--node", "n1"], "twice"),
        (["--agent", "operator"], "twice"),
        (["--agent", "provisioner"], "twice"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Status 1, and nothing is written for anybody."""
    command = ["deploy", "bundle", "--home", str(tmp_path / "h"), "--to", str(tmp_path / "b"), *arguments]
    done = CliRunner().invoke(build(["bursar.cli.deploy"]), command)
    assert (done.exit_code, said in done.output) == (1, True), done.output
    assert not (tmp_path / "b").exists()


def test_the_operators_trust_names_every_service(made: Path) -> None:
    """Who hears broadcasts can verify them."""
    assert json.loads((made / "operator/trust.json").read_text()).keys() == set(SERVICES)


# ---- edge sites


def deploy(*arguments: str) -> str:
    done = CliRunner().invoke(build(["bursar.cli.deploy"]), ["deploy", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    """A centre ``c`` that lets sites link up, a link for the agent cam-1 to its limiter, a site ``s`` with it."""
    centre, link = str(tmp_path / "c"), str(tmp_path / "link")
    deploy("bundle", "--home", centre, "--to", str(tmp_path / "cb"), "--node", "n1", "--sites")
    for_whom = ("--agent", "cam-1", "--service", "limiter", "--node", "n1")
    deploy("link", "--home", centre, "--site", "oslo", *for_whom, "--to", link)
    site = ("--home", str(tmp_path / "s"), "--to", str(tmp_path / "sb"))
    deploy("bundle", *site, "--node", "e1", "--link", link, "--agent", "cam-1")
    return tmp_path


def test_a_site_has_services_of_its_own_and_none_of_those_that_it_shares(edge: Path) -> None:
    """Its agents can verify the broadcasts of both, and the centre's keys stay at the centre."""
    own = set(SERVICES) - {"limiter"}
    assert {place.name for place in (edge / "sb").iterdir()} == {"e1", "provisioner", "operator", "cam-1", *own}
    trust, centre, site = (
        json.loads((edge / place).read_text()) for place in ("sb/cam-1/trust.json", "c/trust.json", "s/trust.json")
    )
    assert trust["limiter"] == centre["limiter"]
    assert {name: trust[name] for name in own} == site
    assert trust["breaker"] != centre["breaker"]
    made = {path.name for path in (edge / "sb/e1").iterdir()}
    assert made == PEM | {"server.conf", "accounts.conf", "link.creds", *(f"link-{name}" for name in PEM)}


def test_both_ends_of_a_link_ask_for_a_certificate(edge: Path) -> None:
    """The centre listens on a port of its own; the site's server brings the agents' account, and no other."""
    listens = json.loads((edge / "cb/n1/server.conf").read_text())["leafnodes"]
    assert listens["port"] == 7422
    assert (listens["tls"]["verify"], listens["tls"]["min_version"]) == (True, "1.3")
    [remote] = json.loads((edge / "sb/e1/server.conf").read_text())["leafnodes"]["remotes"]
    assert remote["urls"] == ["tls://n1:7422"]
    assert remote["account"] == Home(edge / "s").account_id("AGENTS")
    assert remote["tls"]["ca_file"] == "/etc/bursar/link-ca.pem"
    assert "leafnodes" not in server_config(Home(edge / "c"), "n1", ["n1"])


@pytest.mark.integration
@pytest.mark.parametrize("place", ["cb/n1", "sb/e1"])
def test_the_servers_of_both_ends_accept_their_configuration(edge: Path, place: str) -> None:
    """`nats-server -t`, with the files where the test has them."""
    config = edge / place / "server.conf"
    config.write_text(config.read_text().replace("/etc/bursar", str(edge / place)))
    command = [str(usable_binary()), "-t", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agent", "alice", "--service", "limiter"], "agents of that name"),
        (["--agent", "cam-1", "--service", "weather"], "no service weather"),
        (["--agent", "Cam 1", "--service", "limiter"], "not a valid name"),
    ],
)
def test_a_link_that_cannot_be_is_refused_in_words(home: Home, tmp_path: Path, arguments: list[str], said: str) -> None:
    """Status 1, and nothing is written."""
    command = ["deploy", "link", "--home", str(home.path), "--site", "oslo", "--node", "n1", *arguments]
    done = CliRunner().invoke(build(["bursar.cli.deploy"]), [*command, "--to", str(tmp_path / "link")])
    assert (done.exit_code, said in done.output) == (1, True), done.output
    assert not (tmp_path / "link").exists()


def test_a_directory_that_holds_no_link_is_refused_in_words(tmp_path: Path) -> None:
    """And nothing is made of it."""
    command = ["deploy", "bundle", "--home", str(tmp_path / "s"), "--to", str(tmp_path / "b"), "--link", str(tmp_path)]
    done = CliRunner().invoke(build(["bursar.cli.deploy"]), command)
    assert (done.exit_code, "holds no link" in done.output) == (1, True), done.output
    assert not (tmp_path / "s").exists()
