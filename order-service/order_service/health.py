"""What a supervisor asks: is the process alive, can it work?"""

from __future__ import annotations

from typing import cast

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from order_service.database import Database
from order_service.problems import Problem

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say that the process answers."""
    return {"status": "alive"}


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Say that orders can be taken: the database is reached."""
    try:
        cast(Database, current_app.extensions["database"]).check()
    except SQLAlchemyError as error:
        raise Problem(503, "not_ready", f"The database is not reached: {error}.") from error
    return {"status": "ready"}
