"""`/login`: a key for a session."""

import logging

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response

from broker import __version__
from broker.auth import Unauthorized
from broker.dashboard.admission import over_https, sessions
from broker.dashboard.guesses import Guesses, TooManyGuesses
from broker.sessions import LIFE_S, cookie_name

log = logging.getLogger(__name__)

blueprint = Blueprint("login", __name__)


@blueprint.record_once
def _know_guesses(state: BlueprintSetupState) -> None:
    state.app.extensions["guesses"] = Guesses()


@blueprint.get("/login")
def show_login() -> str | Response:
    """Ask for a key, where keys are on."""
    if not sessions().required():
        return redirect(url_for("dashboard.overview.overview"))
    return _asked(None)


@blueprint.post("/login")
def log_in() -> Response | tuple[str, int, dict[str, str]]:
    """Take a key, and go where somebody wanted to go."""
    guesses: Guesses = current_app.extensions["guesses"]
    address = request.remote_addr or ""
    try:
        guesses.require(address)
        id_ = sessions().begin(request.form.get("key", "").strip())
    except TooManyGuesses as refused:
        return _asked(refused.detail), refused.status, {"Retry-After": str(refused.retry_after_s)}
    except Unauthorized as refused:
        guesses.wrong(address)
        log.warning(
            "A wrong key was tried from %s.",
            address,
            extra={"action": "login_refused", "address": address},
        )
        return _asked("This is no key of this broker."), refused.status, {}
    name = sessions().caller(id_).name
    log.info("Signed in: %s.", name, extra={"action": "signed_in", "key_name": name})
    answer = redirect(_within(request.form.get("next", "")), 303)
    secure = over_https()
    sessions().end(request.cookies.get(cookie_name(secure=secure), ""))
    answer.set_cookie(
        cookie_name(secure=secure),
        id_,
        max_age=int(LIFE_S),
        secure=secure,
        httponly=True,
        samesite="Strict",
    )
    return answer


@blueprint.post("/logout")
def log_out() -> Response:
    """Forget who it was."""
    secure = over_https()
    name = cookie_name(secure=secure)
    sessions().end(request.cookies.get(name, ""))
    answer = redirect(url_for(".show_login"), 303)
    answer.delete_cookie(name, secure=secure, httponly=True, samesite="Strict")
    return answer


def _asked(refused: str | None) -> str:
    wanted = request.values.get("next", "")
    return render_template(
        "dashboard/login.html", refused=refused, next=_within(wanted), version=__version__
    )


def _within(address: str) -> str:
    """Return an address if it leads to a page of ours, else that of the first page.

    A second slash, or a backslash that browsers read as one, would lead to another host.
    """
    plain = address.isascii() and address.isprintable() and "\\" not in address
    return address if plain and address.startswith("/") and address[1:2] != "/" else "/"
