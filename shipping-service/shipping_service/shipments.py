"""Shipments over HTTP: read, and moved on by hand."""

from __future__ import annotations

from typing import Annotated, cast

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from shipping_service.depot import Depot
from shipping_service.problems import read_body, read_query
from shipping_service.status import Status

bp = Blueprint("shipments", __name__)


class NewStatus(BaseModel):
    """The status that a shipment shall have."""

    status: Status


class Page(BaseModel):
    """Which part of the list is wanted."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str = ""


def depot() -> Depot:
    """Return the running app's depot."""
    return cast(Depot, current_app.extensions["depot"])


@bp.get("/shipments")
def list_shipments() -> ResponseReturnValue:
    """List shipments by order id; `next` is the `after` of the next page."""
    page = read_query(Page)
    found = [shipment.to_dict() for shipment in depot().list_page(page.after, page.limit)]
    return {
        "shipments": found,
        "next": found[-1]["order_id"] if len(found) == page.limit else None,
    }


@bp.get("/shipments/<order_id>")
def show_shipment(order_id: str) -> ResponseReturnValue:
    """Show the shipment of an order."""
    return depot().find(order_id).to_dict()


@bp.post("/shipments/<order_id>/status")
def change_status(order_id: str) -> ResponseReturnValue:
    """Move a shipment on."""
    return depot().change(order_id, read_body(NewStatus).status).to_dict()
