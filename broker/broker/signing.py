"""Secrets and signatures as Standard Webhooks 1.0 has them."""

import base64
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_GENERATED_BYTES = 32


def new_secret() -> str:
    """Make a secret: `whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_GENERATED_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the 24 to 64 key bytes in a `whsec_…` secret, or raise ValueError."""
    if not secret.startswith(PREFIX):
        raise ValueError(f"must begin with {PREFIX}")
    encoded = secret[len(PREFIX) :]
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:  # binascii.Error, and what is not ASCII
        raise ValueError(f"must be {PREFIX} and base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"must hold 24 to 64 bytes in base64 after {PREFIX}")
    return key


def signature_header(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Sign a request: one `v1,` entry for each key, the newest first."""
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys
    )
