"""Certificates for a test, made as it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, each in a file, and both in one."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """An authority that nobody trusts by itself; its own certificate is in `file`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def vouch_for(self, *names: str) -> Identity:
        """Issue a certificate for host names and addresses, or for who has another name."""
        issued = self._authority.issue_cert(*names)
        base = self._folder / "-".join(names).replace("@", "-at-")
        made = Identity(*(base.with_name(f"{base.name}.{end}") for end in ("crt", "key", "pem")))
        issued.cert_chain_pems[0].write_to_path(made.certificate)
        issued.private_key_pem.write_to_path(made.key)
        issued.private_key_and_cert_chain_pem.write_to_path(made.both)
        return made
