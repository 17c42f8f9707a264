"""What can go wrong between an application and the broker."""

from collections.abc import Sequence

_SENDER_REFUSED = frozenset({401, 403})


class BrokerClientError(Exception):
    """Something between this application and the broker went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(type(self).__doc__ if message is None else message)


class BrokerRefused(BrokerClientError):
    """The broker refused the request; the same request will be refused again.

    `status` is the HTTP status (4xx), `code` the stable word of the refusal, `detail` a sentence
    that says what to do, `errors` the faults by field: `[{"field": …, "message": …}]`.
    """

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[dict[str, str]] = ()
    ) -> None:
        faults = "".join(f"; {e.get('field')}: {e.get('message')}" for e in errors)
        super().__init__(f"{status} {code}: {detail}{faults}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)

    @property
    def of_sender(self) -> bool:
        """Say whether the sender is refused, and so whatever it sends."""
        return self.status in _SENDER_REFUSED


class BrokerUnavailable(BrokerClientError):
    """The broker could not be reached or did not do the work; the request may be repeated as it is.

    `status` is the HTTP status of its last answer, None where there was none; `retry_after_s` the
    wait it asked for, if it did.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class InvalidSignature(BrokerClientError):
    """The request was not signed with a secret known here, or too long ago."""


class MalformedEvent(BrokerClientError, ValueError):
    """This is not a CloudEvents 1.0 event."""


class LaterNotAllowed(BrokerClientError):
    """This delivery brought no ack URL: `later` needs a subscription with `allow_later`."""


class UnsupportedDatabase(BrokerClientError, TypeError):
    """This is not a database, session or connection that the library knows."""
