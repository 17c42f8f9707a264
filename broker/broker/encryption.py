"""Encryption of the secrets that a store keeps.

AES-256-GCM (NIST SP 800-38D), a random nonce for each value. The place of a value (its document and
where it stands there) is authenticated with it: moved to another subscription or another field it
does not open. An earlier value put back in its own place does; against that there is no help here.
"""

import base64
import binascii
import os
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import TypeAlias

KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = "broker secret 1"

Place: TypeAlias = tuple[str, ...]
Sealed: TypeAlias = dict[str, str]


class UnknownKey(Exception):
    """A value was encrypted with a key that is not at hand; the text is the key's id."""


class Tampered(Exception):
    """A value is not what was encrypted at its place."""


class Cipher:
    """Encrypts with the first key, and decrypts with each."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Imported here: it takes 6 MB, which a broker without keys is spared.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._invalid = InvalidTag
        self._by_id = {id_of(key): AESGCM(key) for key in keys}
        self.key_id = id_of(keys[0])

    def seal(self, text: str, place: Place) -> Sealed:
        """Encrypt a value for one place."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._by_id[self.key_id].encrypt(nonce, text.encode(), _bound(place))
        return {"key_id": self.key_id, "sealed": base64.b64encode(nonce + sealed).decode()}

    def open(self, sealed: Sealed, place: Place) -> str:
        """Decrypt what was encrypted for a place. Raises UnknownKey, Tampered."""
        key_id = key_id_of(sealed)
        if key_id not in self._by_id:
            raise UnknownKey(key_id)
        try:
            box = base64.b64decode(sealed["sealed"], validate=True)
            nonce, rest = box[:_NONCE_BYTES], box[_NONCE_BYTES:]
            return self._by_id[key_id].decrypt(nonce, rest, _bound(place)).decode()
        except (self._invalid, KeyError, TypeError, ValueError):
            raise Tampered from None


def key_id_of(sealed: Sealed) -> str:
    """Return the id of the key that a value was encrypted with."""
    return str(sealed.get("key_id"))


def id_of(key: bytes) -> str:
    """Return what a key is called where it is not shown."""
    return sha256(b"broker encryption key\0" + key).hexdigest()[:8]


def keys_in(text: str) -> tuple[bytes, ...]:
    """Read keys of 32 bytes in base64 or hex, with spaces or commas between. Raises ValueError."""
    return tuple(_key_in(part) for part in re.split(r"[\s,]+", text) if part)


def _key_in(text: str) -> bytes:
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        padded = text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4)
        key = base64.b64decode(padded, validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("a key is base64 or hex") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes")
    return key


def _bound(place: Place) -> bytes:
    return "\0".join((_PURPOSE, *place)).encode()
