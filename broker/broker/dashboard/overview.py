"""`/`: whether all is well, and where it is not."""

from flask import Blueprint

from broker.control.permissions import PERMISSIONS, caller
from broker.dashboard.admission import may
from broker.dashboard.charts import chart
from broker.dashboard.page import page
from broker.dashboard.snapshot import latest, worst_first
from broker.history import STEPS

blueprint = Blueprint("overview", __name__)
SHOWN = 12


@blueprint.get("/")
def overview() -> str:
    """Show how the broker does."""
    snapshot, who = latest(), caller()
    actions = PERMISSIONS["subscriptions.get_subscription"].actions
    seen = worst_first(each for each in snapshot.standings if who.may(actions, each.topic))
    see_topic = PERMISSIONS["topics.get_topic"].actions
    topics = [name for name in snapshot.topics if who.may(see_topic, name)]
    rates = snapshot.rates
    charts = {
        "published": chart(rates.published, STEPS),
        "delivered": chart(rates.delivered, STEPS),
        "failed": chart(rates.failed, STEPS),
    }
    ages = [each.oldest_s for each in seen if each.oldest_s is not None]
    return page(
        "overview.html",
        charts=charts if may("ops.metrics") else None,
        topics=topics,
        standings=seen[:SHOWN],
        count=len(seen),
        troubled=sum(bool(each.troubles) for each in seen),
        backlog=sum(each.backlog for each in seen),
        in_flight=sum(each.in_flight for each in seen),
        dead=sum(each.dead for each in seen),
        oldest_s=max(ages, default=None),
        store=snapshot.store,
        missing=snapshot.missing,
    )
