"""Tell that nothing happened without waiting for it."""

from __future__ import annotations

from types import TracebackType

from support.api import Api
from support.endpoint import Endpoint
from support.eventually import eventually

TOPIC = "witness"


class Witness:
    """An endpoint that sees other messages go by.

    Where something should not happen, a test calls `let_pass`: once ten messages of the witness's
    own topic have been delivered, one after another, the other thing has had its chance.
    """

    def __init__(self) -> None:
        self._endpoint = Endpoint()
        self._brokers: set[str] = set()

    def __enter__(self) -> Witness:
        self._endpoint.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for base_url in self._brokers:
            with Api(base_url) as api:
                api.delete_topic(TOPIC, force=True)
        self._endpoint.close()

    def let_pass(self, api: Api, messages: int = 10) -> None:
        """Let a broker deliver so many messages, one after another."""
        self._brokers.add(api.base_url)
        api.ok_subscribe(TOPIC, self._endpoint.url)
        for n in range(messages):
            before = len(self._endpoint.requests)
            api.ok_publish(TOPIC, n)
            eventually(lambda before=before: len(self._endpoint.requests) > before)  # type: ignore[misc]
