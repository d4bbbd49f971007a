"""Certificates of an installation: an authority of its own, and one certificate for each name that it signs.

``<home>/tls/ca.pem`` and ``ca.key`` are made once. The key never leaves the home; whoever has it can be anybody on the
network, though nobody in NATS: who a principal is, its credentials say. ECDSA on P-256, since servers and clients of
all ages know it. Fields as RFC 5280 has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.bus.identity import keys
from bursar.bus.identity.home import Home, HomeError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_DAYS: Final = 3_650
LEAF_DAYS: Final = 397
"""A certificate lives so many days; making the bundle again makes new ones."""
_END: Final = b"-----END CERTIFICATE-----\n"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""A certificate is good from so long before it was made, for machines whose clocks are slow."""


class Signer(NamedTuple):
    """An authority's certificate, and its key."""

    cert: x509.Certificate
    key: EllipticCurvePrivateKey


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
    long it is good for (0: `LEAF_DAYS`). Raises `HomeError` when a name cannot be.
    """
    for one in (name, *hosts):
        check_name(one)
    directory = home.path / "tls"
    if not (directory / "ca.pem").exists():
        new_authority(home)
    cert, key = _make(name, hosts, days or LEAF_DAYS, _signer(directory))
    return Certificate((directory / "ca.pem").read_bytes(), cert, key)


def new_authority(home: Home) -> None:
    """Make the home's authority, or another one. The one before it stays trusted (it stands second in ``ca.pem``) until
    the next is made, so that what it has signed is good until everybody has something new. Everybody has to trust the
    new one before there is anything that it has signed."""
    directory = home.path / "tls"
    keys.make_private_directory(directory)
    cert, key = _make("bursar", (), CA_DAYS)
    before = (directory / "ca.pem").read_bytes() if (directory / "ca.pem").exists() else b""
    newest = before[: before.find(_END) + len(_END)] if _END in before else b""
    keys.write_private(directory / "ca.key", key)
    keys.write_private(directory / "ca.pem", cert + newest)


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


def _signer(directory: Path) -> Signer:
    from cryptography import x509  # noqa: PLC0415 - only who makes certificates has it
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
        cert = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    except (ValueError, TypeError) as error:
        raise HomeError(f"the authority in {directory} cannot be read: {error}") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise HomeError(f"the authority's key in {directory} is of another kind than those that Bursar makes")
    return Signer(cert, key)


def _make(name: str, hosts: Sequence[str], days: int, signer: Signer | None = None) -> tuple[bytes, bytes]:
    """A certificate and its key, PEM; without a signer that of an authority."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.cert.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(_uses(signs=signer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signer is not None:
        client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
        about_signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
        builder = (
            builder.add_extension(x509.ExtendedKeyUsage([server, client] if hosts else [client]), critical=False)
            .add_extension(x509.SubjectAlternativeName(list(map(_alternative, hosts or [name]))), critical=False)
            .add_extension(about_signer, critical=False)
        )
    made = builder.sign(signer.key if signer else key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem), private


def _uses(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415

    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    never = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **never)


def _alternative(host: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415

    if not re.fullmatch(r"[\d.]+", host):
        return x509.DNSName(host)
    try:
        return x509.IPAddress(IPv4Address(host))
    except ValueError:
        raise HomeError(f"{host} cannot stand in a certificate: it is no IPv4 address") from None
