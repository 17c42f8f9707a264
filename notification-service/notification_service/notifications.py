"""Notifications over HTTP: read."""

from __future__ import annotations

from typing import Annotated, cast

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from notification_service.journal import Journal
from notification_service.problems import read_query

bp = Blueprint("notifications", __name__)


class Page(BaseModel):
    """Which part of the list is wanted."""

    order_id: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Annotated[int, Field(ge=0, lt=2**31)] = 0


@bp.get("/notifications")
def list_notifications() -> ResponseReturnValue:
    """List notifications, oldest first; `next` is the `after` of the next page."""
    page = read_query(Page)
    journal = cast(Journal, current_app.extensions["journal"])
    found = journal.list_page(page.order_id, page.after, page.limit)
    return {
        "notifications": [notification.to_dict() for notification in found],
        "next": found[-1].id if len(found) == page.limit else None,
    }
