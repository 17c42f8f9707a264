"""Standard Webhooks signatures, checked from the outside."""

from __future__ import annotations

import base64
import hashlib
import hmac

from standardwebhooks.webhooks import Webhook

from support.endpoint import Received


def new_secret(seed: int = 1) -> str:
    """Make a secret in the standard's form; the same seed gives the same one."""
    return "whsec_" + base64.b64encode(hashlib.sha256(b"%d" % seed).digest()[:24]).decode()


def verify(request: Received, secret: str) -> None:
    """Raise unless the request is signed with this secret.

    The standard's package takes text only, so a body that is not UTF-8 is checked by hand.
    """
    try:
        request.body.decode()
    except UnicodeDecodeError:
        assert expected_entry(request, secret) in entries(request)
    else:
        Webhook(secret).verify(request.body, dict(request.headers), json_parse=False)


def entries(request: Received) -> list[str]:
    """List the signatures a request carries."""
    return request.headers["webhook-signature"].split(" ")


def expected_entry(request: Received, secret: str) -> str:
    """Work out the signature a request should carry, from the text of the standard."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}."
    digest = hmac.new(key, head.encode() + request.body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
