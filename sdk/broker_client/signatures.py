"""The signature of a webhook request, by Standard Webhooks 1.0."""

import base64
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import floor

from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError, hmac_data

from broker_client.errors import InvalidSignature

_PREFIX = "whsec_"
_SECRET_BYTES = 32


class _BytesWebhook(Webhook):
    """The package's check, for any body: the package itself refuses those that are not UTF-8.

    A body goes in and out as Latin-1, which maps every byte to one character and back.
    """

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        """Sign a body given as Latin-1."""
        seconds = floor(timestamp.replace(tzinfo=UTC).timestamp())
        signed = f"{msg_id}.{seconds}.".encode() + data.encode("latin-1")
        return f"v1,{base64.b64encode(hmac_data(self._whsecret, signed)).decode('ascii')}"


def verify(secret: str | Iterable[str], headers: Mapping[str, str], body: bytes) -> None:
    """Check that a request was signed with one of the secrets, within the last five minutes.

    `secret` is `whsec_…`, or several of these while one replaces another. `body` is the body as it
    came, byte for byte. Raises InvalidSignature; ValueError for a secret that is none.
    """
    known = [secret] if isinstance(secret, str) else secret
    lowered = {name.lower(): value for name, value in headers.items()}
    if "." in lowered.get("webhook-id", ""):
        # What is signed is "id.timestamp.body": a point in the id would pass an old one off as new.
        raise InvalidSignature("a webhook-id has no '.'")

    faults = [_fault(_webhook(one), lowered, body) for one in known]
    if None not in faults:
        raise InvalidSignature(faults[-1] if faults else None)


def sign(secret: str, webhook_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that a sender adds; for testing a receiver. `at` is aware."""
    signature = _webhook(secret).sign(webhook_id, at.astimezone(UTC), body.decode("latin-1"))
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(floor(at.timestamp())),
        "webhook-signature": signature,
    }


def new_secret() -> str:
    """Return a new random secret of 32 bytes, `whsec_…`."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


def is_secret(text: str) -> bool:
    """Say whether this is a secret as the standard wants it: `whsec_`, base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(_PREFIX) and 24 <= len(key) <= 64


def _webhook(secret: str) -> _BytesWebhook:
    try:
        return _BytesWebhook(secret)
    except (EmptyWebhookSecretError, ValueError):
        # None of the original goes into the message: it may be most of a real secret.
        raise ValueError("a webhook secret is 'whsec_' and base64, and not empty") from None


def _fault(webhook: _BytesWebhook, headers: dict[str, str], body: bytes) -> str | None:
    """Say what is wrong with a signature; None when it is right."""
    try:
        webhook.verify(body.decode("latin-1"), headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except ValueError:
        # The package does not catch what is wrong with an entry that is no "version,base64".
        return "Malformed signature"
    return None
