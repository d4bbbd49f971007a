"""Which connections are encrypted, and by which files."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from bursar.bus.base import ConnectFailed
from bursar.bus.tls import context_for


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Authority, certificate and key, as the variables name them."""
    authority = trustme.CA()
    own = authority.issue_cert("agent.test")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    return {f"BURSAR_TLS_{name}": str(tmp_path / f"{name.lower()}.pem") for name in ("CA", "CERT", "KEY")}


def test_a_nats_address_is_not_encrypted_whatever_the_variables_say(files: dict[str, str]) -> None:
    """The address decides."""
    assert context_for("nats://127.0.0.1:4222", files) is None
    assert context_for(["nats://a:1", "nats://b:2"], files) is None


def test_a_tls_address_is_checked_by_the_named_authority_with_tls_13_at_least(files: dict[str, str]) -> None:
    """Name and certificate of the server are always checked."""
    context = context_for(["tls://a:1", "tls://b:2"], files)
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"BURSAR_TLS_CA": "/nowhere"}, "BURSAR_TLS_CA"),
        ({"BURSAR_TLS_KEY": ""}, "go together"),
        ({"BURSAR_TLS_CERT": ""}, "go together"),
        ({"BURSAR_TLS_KEY": "/nowhere"}, "BURSAR_TLS_KEY"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: dict[str, str], change: dict[str, str], named: str) -> None:
    """Never an unencrypted connection, or one without a certificate, instead."""
    with pytest.raises(ConnectFailed, match=named):
        context_for("tls://a:1", {**files, **change})
