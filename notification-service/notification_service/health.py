"""What a supervisor asks: is the process alive, can it work?"""

from __future__ import annotations

from typing import cast

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from broker_client.flask_ext import Subscriber
from notification_service.database import Database
from notification_service.problems import Problem

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say that the process answers."""
    return {"status": "alive"}


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Say that messages arrive and can be stored."""
    try:
        cast(Database, current_app.extensions["database"]).check()
    except SQLAlchemyError as error:
        raise Problem(503, "not_ready", f"The database is not reached: {error}.") from error
    if not cast(Subscriber, current_app.extensions["subscriber"]).ready:
        raise Problem(503, "not_ready", "The broker has not confirmed the subscriptions yet.")
    return {"status": "ready"}
