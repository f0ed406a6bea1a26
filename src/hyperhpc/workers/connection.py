"""How the processes of one run find and trust each other: a folder that only they can read.

``OUT/.connection-JOB-RESTART/`` holds the keys of TLS and, once it listens, the addresses
of the scheduler. It lies on the file system that all nodes share, has mode 0700, and is
removed at the end; what a hard death leaves is removed by the next command on that OUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperhpc.errors import ResourceError

if TYPE_CHECKING:
    from distributed.security import Security

# Keys and certificates of TLS: in memory where that will do, else in files of one owner.
#
# One self-signed certificate serves scheduler, workers and client, and each trusts nothing
# but it. So whoever has no part in the key can neither listen in nor connect.

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


_PREFIX = ".connection-"
_SCHEDULER, _DASHBOARD, _OVER = "scheduler.json", "dashboard", "over"
#: Where Slurm does not say when the job ends.
_LONG = timedelta(days=30)


@dataclass(frozen=True)
class Connection:
    """The folder of one run, or of one start of a job that was requeued."""

    folder: Path

    @classmethod
    def of_job(cls, out: Path) -> Connection:
        """Where the processes of this job meet; the same path in each of them."""
        job = os.environ.get("SLURM_JOB_ID", f"pid{os.getpid()}")
        restart = os.environ.get("SLURM_RESTART_COUNT", "0")
        return cls(out.absolute() / f"{_PREFIX}{job}-{restart}")

    def create(self, *, is_secure: bool) -> None:
        """Make the folder with its keys; others see it whole or not at all.

        Raises
        ------
        ResourceError
            If the file system does not keep it private.
        """
        part = self.folder.with_name(f"{self.folder.name}.part")
        for path in (part, self.folder):
            shutil.rmtree(path, ignore_errors=True)
        part.mkdir(mode=0o700)
        part.chmod(0o700)  # whatever the umask
        status = part.stat()
        if status.st_mode & 0o077 or status.st_uid != os.getuid():
            part.rmdir()
            raise ResourceError(
                f"{part.parent} does not keep a folder private: its mode is "
                f"{status.st_mode & 0o777:o}, its owner {status.st_uid}",
                "name an OUT on a file system with owners and modes",
            )
        if is_secure:
            write_keys(part, _lifetime())
        part.rename(self.folder)

    def security(self) -> Security:
        """TLS with the keys of this folder, or none if it was made without."""
        return read_security(self.folder) if has_keys(self.folder) else open_security()

    def publish(self, scheduler: dict[str, Any]) -> None:
        """Tell the others where the scheduler is."""
        part = self.folder / f"{_SCHEDULER}.part"
        part.write_text(json.dumps(scheduler), "utf-8")
        part.replace(self.folder / _SCHEDULER)

    def keep_dashboard(self, link: str) -> Path:
        """Write down the address of the dashboard, which holds a secret; return the file."""
        path = self.folder / _DASHBOARD
        path.write_text(f"{link}\n", "utf-8")
        return path

    def scheduler(self) -> dict[str, Any] | None:
        """What the scheduler has published; None if it does not listen yet."""
        try:
            return json.loads((self.folder / _SCHEDULER).read_text("utf-8"))
        except FileNotFoundError:
            return None

    def is_there(self) -> bool:
        """True once the folder is made."""
        with contextlib.suppress(OSError):  # an NFS client asks the server again
            os.listdir(self.folder.parent)
        return self.folder.is_dir()

    def is_over(self) -> bool:
        """True if there is nothing to connect to, and never will be."""
        return (self.folder / _OVER).exists()

    def end(self) -> None:
        """Remove the keys; who comes late finds a note that it is over."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            (self.folder / _OVER).touch()
            for path in self.folder.iterdir():
                if path.name != _OVER:
                    path.unlink()

    def remove(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def find_stale(out: Path) -> list[Path]:
    """Folders that processes which died hard, or are over, have left."""
    mine = Connection.of_job(out).folder.name
    with contextlib.suppress(OSError):
        return [path for path in out.glob(f"{_PREFIX}*") if path.name != mine]
    return []


def remove_stale(out: Path) -> None:
    """Remove them, keys before all."""
    for path in find_stale(out):
        shutil.rmtree(path, ignore_errors=True)


def _lifetime() -> timedelta:
    """Until the job ends, and a day."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    left = timedelta(seconds=max(0.0, int(end) - time.time())) if end.isdecimal() else _LONG
    return left + timedelta(days=1)
