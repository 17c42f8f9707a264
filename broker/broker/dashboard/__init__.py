"""The pages at `/`, for people: what there is, how it stands, and what can be done about it.

They are made from the same use cases as the HTTP interface, and may be seen by the same keys.
"""

from flask import Blueprint, Flask

from broker.dashboard.admission import admit, protect
from broker.dashboard.refusals import refuse_on
from broker.dashboard.snapshot import SnapshotsByBroker
from broker.dashboard.wording import FILTERS
from broker.sessions import Sessions


def add_dashboard(app: Flask, sessions: Sessions) -> None:
    """Serve the pages beside the control plane."""
    from broker.dashboard import (
        dead_letters,
        deliveries,
        keys,
        login,
        messages,
        overview,
        subscriptions,
        topics,
    )

    pages = Blueprint(
        "dashboard",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/static",
    )
    for module in (
        overview,
        topics,
        subscriptions,
        messages,
        deliveries,
        dead_letters,
        keys,
        login,
    ):
        pages.register_blueprint(module.blueprint)
    pages.before_request(admit)
    pages.after_request(protect)
    refuse_on(pages)
    for name, filter_ in FILTERS.items():
        pages.add_app_template_filter(filter_, name)
    app.extensions["sessions"] = sessions
    app.extensions["snapshots"] = SnapshotsByBroker()
    app.register_blueprint(pages)
