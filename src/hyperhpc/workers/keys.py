"""Keys and certificates of TLS: in memory where that will do, else in files of one owner.

One self-signed certificate serves scheduler, workers and client, and each trusts nothing
but it. So whoever has no part in the key can neither listen in nor connect.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.security import Security

_KEY, _CERTIFICATE = "key.pem", "certificate.pem"
#: Clocks of nodes differ.
_CLOCKS = timedelta(days=1)


def temporary_security() -> Security:
    """TLS keys and a certificate that live in memory and end with the process."""
    from distributed.security import Security

    return Security.temporary()


def open_security() -> Security:
    """No encryption at all: only for who asked for it."""
    from distributed.security import Security

    return Security(require_encryption=False)


def write_keys(folder: Path, lifetime: timedelta) -> None:
    """Make a key and a certificate in a folder that is its owner's alone.

    Parameters
    ----------
    folder
        Exists, with mode 0700.
    lifetime
        For how long from now the certificate is valid.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hyperhpc")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_private(folder / _KEY, secret)
    _write_private(folder / _CERTIFICATE, certificate.public_bytes(Encoding.PEM))


def read_security(folder: Path) -> Security:
    """Security of any role, from the files of :func:`write_keys`."""
    from distributed.security import Security

    key, certificate = str(folder / _KEY), str(folder / _CERTIFICATE)
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        tls_client_key=key,
        tls_client_cert=certificate,
        tls_scheduler_key=key,
        tls_scheduler_cert=certificate,
        tls_worker_key=key,
        tls_worker_cert=certificate,
    )


def has_keys(folder: Path) -> bool:
    """True if :func:`write_keys` has been there."""
    return (folder / _KEY).is_file()


def _write_private(path: Path, content: bytes) -> None:
    """Never readable by others, not even for a moment."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "wb") as file:
        file.write(content)
