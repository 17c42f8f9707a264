"""Who may see a page and do what it offers: by the rules of the calls that are behind it."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import current_app, g, redirect, request, url_for
from flask.wrappers import Response as Answer
from werkzeug.wrappers import Response

from broker.auth import Unauthorized
from broker.control.permissions import PAGES, PERMISSIONS, caller
from broker.errors import BrokerError
from broker.sessions import Sessions, cookie_name

# The call of the HTTP interface whose rule a page has. What is not named here is open.
CALLS: Mapping[str, str] = {
    "overview.overview": "topics.list_topics",
    "topics.list_topics": "topics.list_topics",
    "topics.show_topic": "topics.get_topic",
    "topics.publish": "hot.publish",
    "messages.browse": "messages.browse",
    "messages.tail": "hot.stream",
    "messages.show_message": "messages.get_message",
    "subscriptions.list_subscriptions": "topics.list_topics",
    "subscriptions.show_subscription": "subscriptions.get_subscription",
    "subscriptions.pause": "subscriptions.pause",
    "subscriptions.resume": "subscriptions.resume",
    "subscriptions.ask_to_rotate_secret": "subscriptions.rotate_secret",
    "subscriptions.rotate_secret": "subscriptions.rotate_secret",
    "subscriptions.ask_to_seek": "subscriptions.seek",
    "subscriptions.seek": "subscriptions.seek",
    "subscriptions.ask_to_delete_subscription": "subscriptions.delete_subscription",
    "subscriptions.delete_subscription": "subscriptions.delete_subscription",
    "deliveries.retry": "deliveries.retry",
    "deliveries.ask_to_dead_letter": "deliveries.dead_letter",
    "deliveries.dead_letter": "deliveries.dead_letter",
    "keys.list_keys": "keys.list_keys",
    "keys.show_key": "keys.get_key",
    "keys.change_key": "keys.put_key",
    "dead_letters.list_dead_letters": "dead_letters.list_dead_letters",
    "dead_letters.ask_to_replay": "dead_letters.replay",
    "dead_letters.replay": "dead_letters.replay",
    "dead_letters.ask_to_delete_dead_letter": "dead_letters.delete_dead_letter",
    "dead_letters.delete_dead_letter": "dead_letters.delete_dead_letter",
}
OPEN_PAGES = frozenset({"static", "login.show_login", "login.log_in", "login.log_out"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
PROTECTION = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # a form then tells its Origin, and other sites learn nothing
    "X-Content-Type-Options": "nosniff",
}


def over_https() -> bool:
    """Say whether the browser came over HTTPS, which a proxy ends."""
    return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"


class CrossSite(BrokerError):
    """This did not come from a page of this broker."""

    status = 403
    code = "cross_site"

    def __init__(self) -> None:
        super().__init__(
            "Only this broker's own pages may act. If a proxy is in front, "
            "have it pass on the Host header as it came."
        )


def admit() -> Response | None:
    """Let a request go on to its page, or lead whoever has not signed in to where that is done."""
    if request.method not in SAFE_METHODS and not from_here(dict(request.headers), request.host):
        raise CrossSite
    page = (request.endpoint or "").removeprefix(PAGES)
    if page in OPEN_PAGES:
        return None
    needs = PERMISSIONS[CALLS[page]]
    try:
        g.caller = sessions().caller(request.cookies.get(cookie_name(secure=over_https())))
    except Unauthorized:
        return _to_login()
    g.caller.require(needs, str((request.view_args or {}).get("topic", "")))
    return None


def may(call: str, topic: str | None = None) -> bool:
    """Say whether who looks may make a call of the HTTP interface on a topic, None for all."""
    return caller().may(PERMISSIONS[call].actions, topic)


def from_here(headers: Mapping[str, str], host: str) -> bool:
    """Say whether a request came from a page of ours, by what only a browser can say of it.

    Sources: Fetch Metadata Request Headers, section 2.2; Fetch, section 3.2. Browsers leave
    `Sec-Fetch-Site` out where a page did not come by HTTPS or from this machine; `Origin` they send
    with every form that is posted.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return urlsplit(headers.get("Origin", "")).netloc.lower() == host.lower()


def protect(response: Answer) -> Answer:
    """Have a browser load nothing from elsewhere, run nothing inline, and keep no page."""
    response.headers.update(PROTECTION)
    if request.endpoint != f"{PAGES}static":
        response.headers["Cache-Control"] = "no-store"
    return response


def sessions() -> Sessions:
    """Return those who have signed in."""
    found: Sessions = current_app.extensions["sessions"]
    return found


def _to_login() -> Response:
    if "HX-Request" in request.headers:  # a part of a page; the whole one is to go there
        return Response(status=204, headers={"HX-Redirect": url_for("dashboard.login.show_login")})
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("dashboard.login.show_login", next=wanted), 303)
