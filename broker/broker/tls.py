"""TLS towards endpoints: whose certificates are trusted, and which one the broker shows."""

import ssl
from pathlib import Path

from msgspec import Struct

_BEGINS_KEY = "PRIVATE KEY-----"


class UnusableFile(ValueError):
    """A file is not what it should be; the text says why, and goes on from its name."""


class Tls(Struct, frozen=True):
    """What a TLS client needs. Files are in PEM; those of the folder are named by their hashes."""

    authorities: list[str] = []
    authorities_folder: str | None = None
    certificate: str | None = None
    key: str | None = None


def tls_of(ca_file: str | None, certificate: str | None, key: str | None) -> Tls:
    """Trust whom the system trusts, where OpenSSL looks for it, and whoever is in `ca_file`.

    libcurl has a guess of its own, which is one file, and gives way to any other.
    """
    system = ssl.get_default_verify_paths()
    files = [file for file in (system.cafile, ca_file) if file is not None]
    return Tls(files, system.capath if system.cafile is None else None, certificate, key)


def certificates_in(file: str) -> str:
    """Return a file's name if it has certificates, else raise UnusableFile."""
    _read(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise UnusableFile("which has no certificate in PEM") from None
    return file


def key_in(file: str) -> str:
    """Return a file's name if it has a private key, else raise UnusableFile."""
    text = _read(file)
    if _BEGINS_KEY not in text:
        raise UnusableFile("which has no private key in PEM")
    if "ENCRYPTED" in text:
        raise UnusableFile("whose key needs a passphrase")
    return file


def belongs(certificate: str, key: str) -> bool:
    """Say whether a file's private key is that of the first certificate in another."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        return False
    return True


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except UnicodeDecodeError:
        raise UnusableFile("which is not PEM") from None
    except OSError as error:
        raise UnusableFile(f"which cannot be read: {error.strerror}") from None
