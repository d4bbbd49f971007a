"""Encryption of connections to NATS: for ``tls://`` addresses, by files that lie beside the credentials or are named.

=====================  ==================================================================
``BURSAR_TLS_CA``      PEM file of the authority that signed the servers' certificates
``BURSAR_TLS_CERT``    PEM file of one's own certificate, where the servers ask for one
``BURSAR_TLS_KEY``     its key
=====================  ==================================================================

Where none of them is set: ``ca.pem``, ``cert.pem`` and ``key.pem`` beside the credentials (in a bundle), else those in
the ``tls`` of the home that the credentials belong to. Without any the system's authorities count. TLS 1.3 or nothing:
both ends are ours. A ``nats://`` address is not encrypted, whatever the variables say.

The files are looked at before each handshake: who reconnects after a rotation does so with the new certificate, without
a restart, and trusts the new authority.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from bursar.bus.base import ConnectFailed

log = logging.getLogger("bursar.bus")


class TlsFiles(NamedTuple):
    """Paths of PEM files. ``ca``: whom to trust; None: the system's authorities. ``cert``, ``key``: one's own."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Encryption(ssl.SSLContext):
    """A client's context that follows its files."""

    files: TlsFiles
    _loaded: tuple[Any, ...]

    def __new__(cls, files: TlsFiles) -> Self:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.files = files
        if files.ca is None:
            made.load_default_certs()
        made._load(files)
        made._loaded = _stamps(files)
        return made

    def renew(self) -> None:
        """Load the files again if they have changed; as long as they do not fit together, the old ones hold."""
        found = _stamps(self.files)
        if found == self._loaded:
            return
        try:
            Encryption(self.files)  # a pair that is half written must not get into this one
            self._load(self.files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_not_renewed", extra={"error": type(error).__name__})
        else:
            self._loaded = found

    def _load(self, files: TlsFiles) -> None:
        if files.ca is not None:
            self.load_verify_locations(files.ca)
        if files.cert is not None:
            self.load_cert_chain(files.cert, files.key)

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        self.renew()
        return super().wrap_bio(*arguments, **named)

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        self.renew()
        return super().wrap_socket(*arguments, **named)


def _stamps(files: TlsFiles) -> tuple[Any, ...]:
    """What changes when somebody writes a file anew; None for one that cannot be seen."""
    found: list[Any] = []
    for name in files:
        try:
            seen = Path(name).stat() if name else None
        except OSError:
            seen = None
        found.append(None if seen is None else (seen.st_ino, seen.st_mtime_ns, seen.st_size))
    return tuple(found)


def context_for(
    url: str | Iterable[str], environ: Mapping[str, str] | None = None, creds: str | Path | None = None
) -> ssl.SSLContext | None:
    """How to encrypt a connection to these servers; None when none of them is a ``tls://`` address. ``creds``: the
    credentials file, beside which or in whose home certificates may lie.

    Raises `ConnectFailed`, which names the variable, when a file cannot be used.
    """
    if not any(one.strip().startswith("tls://") for one in ([url] if isinstance(url, str) else url)):
        return None
    env = os.environ if environ is None else environ
    files = TlsFiles(*(env.get(f"BURSAR_TLS_{name}") or None for name in ("CA", "CERT", "KEY")))
    if not any(files) and creds is not None:
        files = files_beside(Path(creds))
    if bool(files.cert) != bool(files.key):
        raise ConnectFailed("BURSAR_TLS_CERT and BURSAR_TLS_KEY go together: only one of them is set")
    _check(TlsFiles(files.ca), "BURSAR_TLS_CA")
    return _check(files, "BURSAR_TLS_CERT or BURSAR_TLS_KEY")


def _check(files: TlsFiles, named: str) -> Encryption:
    try:
        return Encryption(files)
    except (OSError, ssl.SSLError) as error:
        raise ConnectFailed(f"{named} cannot be used: {error}") from None


def files_beside(creds: Path) -> TlsFiles:
    """Those of a bundle, or of a home; none at all otherwise."""
    home = creds.parent.parent / "tls"
    for folder, own in ((creds.parent, "cert"), (home, "client")):
        names = [folder / "ca.pem", folder / f"{own}.pem", folder / ("key.pem" if own == "cert" else "client.key")]
        if all(os.access(name, os.R_OK) for name in names):
            return TlsFiles(*map(str, names))
    return TlsFiles()
