"""Receives webhooks in a Flask application."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from flask import Flask

from broker_client.event import Event
from broker_client.inbox import Inbox

Handler = Callable[[Event, Any], object]
H = TypeVar("H", bound=Handler)


class Subscriber:
    """Receives the events of topics in a Flask application."""

    def __init__(
        self,
        app: Flask | None = None,
        *,
        inbox: Inbox,
        transaction: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self._inbox = inbox

    def init_app(self, app: Flask) -> None:
        """Register the routes and begin to subscribe."""
        raise NotImplementedError

    def on(
        self,
        topic: str,
        *,
        subscription: str | None = None,
        types: Sequence[str] | None = None,
        **fields: Any,
    ) -> Callable[[H], H]:
        """Handle a topic's events with the decorated function."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to create the subscriptions, in the background."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop renewing the subscriptions."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Say whether all subscriptions exist."""
        raise NotImplementedError
