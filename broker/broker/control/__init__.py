"""The control plane: a Flask application with a blueprint per noun."""

from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from broker.api.problems import CONTENT_TYPE, HttpRefusal, problem
from broker.auth import Keys
from broker.control.permissions import admit
from broker.control.sequences import SequenceConverter
from broker.errors import BrokerError, MethodNotAllowed, RouteNotFound
from broker.metrics import Measures
from broker.overview import Overview
from broker.service import Broker

T = TypeVar("T")


class Bridge(Protocol):
    """The way from Flask's threads to the event loop, where the broker lives."""

    @property
    def broker(self) -> Broker:
        """What is asked."""

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns."""

    def ready(self) -> list[str]:
        """Return what keeps this process from working; called on the loop."""

    async def measures(self) -> Measures:
        """Tell of everything that this process serves."""

    def overview(self) -> Overview:
        """Tell the pages of everything."""


# Which of several brokers of this process a request is for: whoever hands it to the application
# says so.
asked_broker: ContextVar[Bridge | None] = ContextVar("asked_broker", default=None)


def bridge() -> Bridge:
    """Return the bridge to the broker that this request is for."""
    found: Bridge = asked_broker.get() or current_app.extensions["broker"]
    return found


def create_app(to_broker: Bridge | None, api_keys: Keys) -> Flask:
    """Build the application, whose calls are those of whoever has a key for them.

    Without a bridge of its own each request has to come with one, in `asked_broker`.
    """
    from broker.control import (
        acks,
        dead_letters,
        deliveries,
        docs,
        hot,
        keys,
        messages,
        openapi,
        ops,
        scheduled,
        subscriptions,
        topics,
    )

    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["sequence"] = SequenceConverter
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["broker"] = to_broker
    nouns = (
        topics,
        subscriptions,
        deliveries,
        dead_letters,
        acks,
        messages,
        hot,
        scheduled,
        keys,
        ops,
        openapi,
        docs,
    )
    for module in nouns:
        app.register_blueprint(module.blueprint)
    app.before_request(lambda: admit(request, api_keys))
    app.register_error_handler(BrokerError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _fail)
    return app


def _refuse(error: BrokerError) -> Response:
    response = Response(problem(error), error.status, content_type=CONTENT_TYPE)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _refuse_http(error: HTTPException) -> Response:
    if error.code == 404:
        return _refuse(RouteNotFound(f"Nothing is served at {request.path}."))
    if error.code == 405:
        allowed = sorted(error.valid_methods or ())  # type: ignore[attr-defined]
        response = _refuse(MethodNotAllowed(f"{request.path} takes {', '.join(allowed)}."))
        response.headers["Allow"] = ", ".join(allowed)
        return response
    return _refuse(HttpRefusal(error.code or 500, error.description))


def _fail(error: Exception) -> Response:
    current_app.logger.error("A request failed.", exc_info=error)
    return _refuse(BrokerError("Something went wrong here; the broker's log says what."))
