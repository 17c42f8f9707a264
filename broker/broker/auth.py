"""Who may call: with keys switched on, whoever has the admin key."""

import hmac
from collections.abc import Iterable

from broker.errors import BrokerError

_OPEN = frozenset({"/healthz", "/readyz"})
_ACKS = "/v1/acks/"  # their token is the key


class Unauthorized(BrokerError):
    """This call needs a key."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("Send the header Authorization: Bearer <key> with a key of this broker.")


class Keys:
    """The keys that open the door; None leaves it open."""

    def __init__(self, admin_key: str | None) -> None:
        self._admin = None if admin_key is None else admin_key.encode()

    def require(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise Unauthorized unless the request may pass."""
        if self._admin is None or path in _OPEN or path.startswith(_ACKS):
            return
        for name, value in headers:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._admin):
                    return
        raise Unauthorized
