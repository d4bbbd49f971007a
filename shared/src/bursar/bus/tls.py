"""Encryption of connections to NATS: for ``tls://`` addresses, by files that environment variables name.

=====================  ==================================================================
``BURSAR_TLS_CA``      PEM file of the authority that signed the servers' certificates
``BURSAR_TLS_CERT``    PEM file of one's own certificate, where the servers ask for one
``BURSAR_TLS_KEY``     its key
=====================  ==================================================================

Without the first the system's authorities count. TLS 1.3 or nothing: both ends are ours. A ``nats://`` address is not
encrypted, whatever the variables say.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping

from bursar.bus.base import ConnectFailed


def context_for(url: str | Iterable[str], environ: Mapping[str, str] | None = None) -> ssl.SSLContext | None:
    """How to encrypt a connection to these servers; None when none of them is a ``tls://`` address.

    Raises `ConnectFailed`, which names the variable, when a file cannot be used.
    """
    if not any(one.strip().startswith("tls://") for one in ([url] if isinstance(url, str) else url)):
        return None
    env = os.environ if environ is None else environ
    authority, cert, key = (env.get(f"BURSAR_TLS_{name}") or None for name in ("CA", "CERT", "KEY"))
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ConnectFailed(f"BURSAR_TLS_CA cannot be used: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if bool(cert) != bool(key):
        raise ConnectFailed("BURSAR_TLS_CERT and BURSAR_TLS_KEY go together: only one of them is set")
    if cert:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed(f"BURSAR_TLS_CERT or BURSAR_TLS_KEY cannot be used: {error}") from None
    return context
