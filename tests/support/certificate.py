"""A certificate authority as a lab may have one, and certificates that it signs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain, and its key, as PEM files."""

    chain: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """What makes a server serve it."""
        return {"DTRAIN_TLS_CERTIFICATE": str(self.chain), "DTRAIN_TLS_KEY": str(self.key)}


class Authority:
    """A CA, with its own certificate and all that it signs in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        """What a client must trust."""
        self._ca.cert_pem.write_to_path(str(self.file))

    def sign(self, *names: str, begins: float = -1, ends: float = 30) -> Certificate:
        """A certificate for host names and IP addresses.

        Args:
            names: for whom it is.
            begins: the day from which on it holds, counted from today.
            ends: the day until which it holds.
        """
        now = datetime.now(UTC).replace(tzinfo=None)
        signed = self._ca.issue_cert(
            *names,
            not_before=now + timedelta(days=begins),
            not_after=now + timedelta(days=ends),
        )
        stem = f"{names[0]}-{begins}-{ends}"
        certificate = Certificate(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        certificate.chain.write_bytes(b"".join(blob.bytes() for blob in signed.cert_chain_pems))
        certificate.key.touch(mode=0o600)
        certificate.key.write_bytes(signed.private_key_pem.bytes())
        return certificate
