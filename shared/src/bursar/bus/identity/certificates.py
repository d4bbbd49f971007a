"""Certificates of an installation: an authority of its own, and one certificate for each name that it signs.

``<home>/tls/ca.pem`` and ``ca.key`` are made once. The key never leaves the home; whoever has it can be anybody on the
network, though nobody in NATS: who a principal is, its credentials say. Made by ``openssl`` (3.0 or newer), which is on
every machine that could need this. ECDSA on P-256, since servers and clients of all ages know it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from bursar.bus.identity import keys
from bursar.bus.identity.home import Home, HomeError

CA_DAYS: Final = 3_650
LEAF_DAYS: Final = 397
"""A certificate lives so many days; making the bundle again makes new ones."""
_END: Final = b"-----END CERTIFICATE-----\n"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")

_PROFILES: Final = """
[req]
distinguished_name = subject
prompt = no
[subject]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {uses}
subjectAltName = {alternatives}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificate(NamedTuple):
    """PEM: the authority's certificate, one's own, and its key."""

    authority: bytes
    cert: bytes
    key: bytes


def check_name(name: str) -> None:
    """Raise `HomeError` unless the name can stand in a certificate."""
    if not _NAME.fullmatch(name):
        raise HomeError(f"{name!r} cannot stand in a certificate: letters, digits, '-' and '.', at most 64")


def issue(home: Home, name: str, hosts: Sequence[str] = (), days: int = 0) -> Certificate:
    """A new certificate for ``name``, signed by the home's authority, which is made when there is none.

    ``hosts``: names and IPv4 addresses under which a server is reached; without them it is a client's. ``days``: how
    long it is good for (0: `LEAF_DAYS`). Raises `HomeError` when a name cannot be, or openssl does not do it.
    """
    for one in (name, *hosts):
        check_name(one)
    directory = home.path / "tls"
    if not (directory / "ca.pem").exists():
        new_authority(home)
    signer = ("-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"))
    made = _openssl("leaf", name, hosts, days or LEAF_DAYS, signer)
    return made._replace(authority=(directory / "ca.pem").read_bytes())


def new_authority(home: Home) -> None:
    """Make the home's authority, or another one. The one before it stays trusted (it stands second in ``ca.pem``) until
    the next is made, so that what it has signed is good until everybody has something new. Everybody has to trust the
    new one before there is anything that it has signed."""
    directory = home.path / "tls"
    keys.make_private_directory(directory)
    made = _openssl("authority", "bursar", (), CA_DAYS)
    before = (directory / "ca.pem").read_bytes() if (directory / "ca.pem").exists() else b""
    newest = before[: before.find(_END) + len(_END)] if _END in before else b""
    keys.write_private(directory / "ca.key", made.key)
    keys.write_private(directory / "ca.pem", made.cert + newest)


def write_own(home: Home, hosts: Sequence[str], days: int = 0) -> list[Path]:
    """New certificates of this machine: of its server, reached under ``hosts``, and of whoever connects from here.
    They take the place of those that were there; the hosts are kept in ``hosts.json``, for the next time."""
    directory = home.path / "tls"
    written = []
    for name, reached in (("server", hosts), ("client", ())):
        made = issue(home, name, reached, days)
        for end, content in (("key", made.key), ("pem", made.cert)):
            keys.write_private(directory / f"{name}.{end}", content)
            written.append(directory / f"{name}.{end}")
    keys.write_private(directory / "hosts.json", json.dumps(list(hosts)).encode())
    return written


def write_for(home: Home, name: str, days: int = 0) -> Path:
    """The certificate of somebody on another machine: a directory with ``ca.pem``, ``cert.pem`` and ``key.pem``."""
    made, directory = issue(home, name, (), days), home.path / "tls" / "clients" / name
    for folder in (directory.parent, directory):
        keys.make_private_directory(folder)
    for file, content in (("ca.pem", made.authority), ("cert.pem", made.cert), ("key.pem", made.key)):
        keys.write_private(directory / file, content)
    return directory


def own_hosts(home: Home) -> list[str] | None:
    """The names of this machine's server, as they were given last; None when it has no certificate."""
    path = home.path / "tls" / "hosts.json"
    return list(json.loads(path.read_text())) if path.exists() else None


def clients_of(home: Home) -> list[str]:
    """Who on other machines has a certificate."""
    return sorted(path.name for path in (home.path / "tls" / "clients").glob("*") if path.is_dir())


def _openssl(profile: str, name: str, hosts: Sequence[str], days: int, signer: Sequence[str] = ()) -> Certificate:
    """One certificate with its key; self-signed without a signer."""
    with TemporaryDirectory(prefix="bursar-tls-") as directory:
        config, cert, key = (Path(directory) / file for file in ("openssl.cnf", "cert.pem", "cert.key"))
        uses = "serverAuth, clientAuth" if hosts else "clientAuth"
        alternatives = ", ".join(map(_alternative, hosts or [name]))
        config.write_text(_PROFILES.format(name=name, uses=uses, alternatives=alternatives))
        command = ("openssl", "req", "-x509", "-new", "-config", config, "-extensions", profile, "-days", str(days))
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", key, "-out", cert)
        try:
            subprocess.run([*command, *kind, *signer], check=True, capture_output=True, text=True, timeout=30)
            return Certificate(b"", cert.read_bytes(), key.read_bytes())
        except FileNotFoundError:
            raise HomeError("there is no openssl on the PATH: certificates are made with it") from None
        except subprocess.SubprocessError as error:
            words = str(getattr(error, "stderr", None) or error).strip().splitlines()
            raise HomeError(f"openssl does not make a certificate for {name}: {words[-1]}") from None


def _alternative(host: str) -> str:
    return f"IP:{host}" if re.fullmatch(r"[\d.]+", host) else f"DNS:{host}"
