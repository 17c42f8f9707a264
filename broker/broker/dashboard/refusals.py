"""What a page shows where the broker refuses."""

from flask import Blueprint, current_app, render_template
from werkzeug.exceptions import HTTPException

from broker.api.problems import HttpRefusal
from broker.errors import BrokerError


def refuse_on(pages: Blueprint) -> None:
    """Have the refusals of these pages be pages."""
    pages.register_error_handler(BrokerError, _refuse)
    pages.register_error_handler(HTTPException, _refuse_http)
    pages.register_error_handler(Exception, _fail)


def _refuse(error: BrokerError) -> tuple[str, int, dict[str, str]]:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    page = render_template("dashboard/refusal.html", error=error)
    return page, error.status, headers


def _refuse_http(error: HTTPException) -> tuple[str, int, dict[str, str]]:
    return _refuse(HttpRefusal(error.code or 500, error.description))


def _fail(error: Exception) -> tuple[str, int, dict[str, str]]:
    current_app.logger.error("A page failed.", exc_info=error)
    return _refuse(BrokerError("Something went wrong here; the broker's log says what."))
