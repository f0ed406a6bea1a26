"""TLS keys and certificates, in files that only their owner can read.

They are files on one machine too: Dask would write a key that it is given in memory to a file
of its own for a moment, each time it makes a TLS context, and a kill then would leave it there
(docs/decisions/0043-keys-of-one-machine-are-files-too.md).

One self-signed certificate serves scheduler, workers and client, and each of them trusts
nothing else. So a process without the key can neither listen in nor connect.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed.security import Security

_KEY, _CERTIFICATE = "key.pem", "certificate.pem"
#: The clocks of nodes may differ by so much.
_CLOCK_DIFFERENCE = timedelta(days=1)
#: The lifetime of keys of one machine, which are removed at the end.
_TEMPORARY_LIFETIME = timedelta(days=365)


def temporary_security(folder: str) -> Security:
    """TLS with a new key and certificate in a scratch folder, as long as that exists."""
    write_keys(Path(folder), _TEMPORARY_LIFETIME)
    return read_security(Path(folder))


def write_keys(folder: Path, lifetime: timedelta) -> None:
    """Write a new key and its certificate, valid for so long from now, into a private folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hyperhpc")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = {_KEY: secret, _CERTIFICATE: certificate.public_bytes(Encoding.PEM)}
    for file, content in contents.items():
        path = folder / file
        path.touch(0o600, exist_ok=False)  # while it is empty, so that others never read it
        try:
            path.write_bytes(content)
        except OSError as error:  # which does not say where, if the disk is full
            raise OSError(error.errno, error.strerror, str(path)) from None


def read_security(folder: Path) -> Security:
    """TLS for scheduler, worker or client with the keys of a folder; none without keys."""
    from distributed.security import Security

    key, certificate = str(folder / _KEY), str(folder / _CERTIFICATE)
    if not os.path.isfile(key):
        return Security(require_encryption=False)
    roles = ("client", "scheduler", "worker")
    keys = {f"tls_{role}_key": key for role in roles}
    certificates = {f"tls_{role}_cert": certificate for role in roles}
    return Security(require_encryption=True, tls_ca_file=certificate, **keys, **certificates)
