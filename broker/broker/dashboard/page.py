"""Rendering pages, and the parts of them that are asked for again."""

from typing import Any

from flask import g, render_template, request

from broker import __version__
from broker.dashboard.admission import may, sessions

# What may stand behind `done` in an address, and what a page says then. Never the address's own
# words: whoever makes a link would write on our pages.
DONE = {
    "paused": "Paused. What comes waits here until you resume it.",
    "resumed": "Resumed.",
    "deleted": "Deleted.",
    "moved": "Moved. What it is owed from there is being delivered.",
    "retried": "It is attempted now.",
    "given-up": "It is a dead letter now.",
    "replayed": "The dead letters are owed again.",
    "changed": "Changed.",
    "dropped": "The dead letter is deleted.",
}


def page(template: str, **values: Any) -> str:
    """Render a page, or only its live part where that is what is asked for."""
    return render_template(
        f"dashboard/{template}",
        layout="dashboard/part.html" if "HX-Request" in request.headers else "dashboard/base.html",
        may=may,
        who=g.caller,
        signing_in=sessions().required(),
        done=DONE.get(request.args.get("done", "")),
        version=__version__,
        home=home(),
        **values,
    )


def home() -> str:
    """Return the address of the broker as whoever looks has it, with a slash at its end."""
    secure = request.headers.get("X-Forwarded-Proto") == "https"
    return request.host_url.replace("http:", "https:", 1) if secure else request.host_url


def pages_of(count: int, number: int, length: int) -> tuple[slice, int, int]:
    """Return which rows page `number` has, the page it really is, and how many there are."""
    last = max(1, -(-count // length))
    number = min(max(1, number), last)
    return slice((number - 1) * length, number * length), number, last
