"""The pages where API keys are on: signing in, and seeing and doing what the key allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import cast

import httpx
import pytest

from broker.auth import Keys
from broker.control import Bridge, create_app
from broker.control.permissions import PAGES, PERMISSIONS
from broker.dashboard import add_dashboard
from broker.dashboard.admission import CALLS, OPEN_PAGES
from broker.sessions import COOKIE, Sessions
from support.broker_process import BrokerProcess
from support.eventually import eventually
from support.page import Page, Visitor, page_of

ADMIN_KEY = "an-admin-key-of-the-tests"
SCOPES = {
    "publish": ["publish:orders"],
    "subscribe": ["subscribe:orders"],
    "read": ["read:orders"],
    "all of another topic": ["publish:other", "subscribe:other", "read:other"],
    "read everywhere": ["read:*"],
    "admin": ["admin"],
}
VALUES = {
    "topic": "orders",
    "name": "none-such",
    "sequence": 999999,
    "filename": "dashboard.css",
    "id_": "none-such",
}


def routes() -> list[tuple[str, str, str]]:
    """Return every page with a method and an address that reach it."""
    keys = Keys(None, on=False)
    app = create_app(cast(Bridge, None), keys)
    add_dashboard(app, Sessions(keys))
    found = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(PAGES):
            built = rule.build({name: VALUES[name] for name in rule.arguments})
            assert built is not None
            methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            found += [(rule.endpoint.removeprefix(PAGES), method, built[1]) for method in methods]
    return found


ROUTES = routes()
GUARDED = [route for route in ROUTES if route[0] not in OPEN_PAGES]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with keys on, a topic, and a subscription."""
    running = BrokerProcess(
        tmp_path_factory.mktemp("guarded"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(running.start()):
        running.api.http.headers["authorization"] = f"Bearer {ADMIN_KEY}"
        for topic in ("orders", "other"):
            running.api.put_subscription(topic, "s")
            running.api.ok_publish(topic, 1)
        yield running


@pytest.fixture(scope="module")
def key_of(guarded: BrokerProcess) -> dict[str, str]:
    """A key for each set of scopes."""
    return {name: made(guarded, name.replace(" ", "-"), *SCOPES[name]) for name in SCOPES}


@pytest.fixture(scope="module")
def signed_in(guarded: BrokerProcess, key_of: dict[str, str]) -> Iterator[dict[str, Visitor]]:
    """Somebody who has signed in with each of them."""
    visitors = {name: Visitor(guarded.base_url) for name in key_of}
    for name, visitor in visitors.items():
        sign_in(visitor, key_of[name])
    yield visitors
    for visitor in visitors.values():
        visitor.close()


@pytest.fixture
def visitor(guarded: BrokerProcess) -> Iterator[Visitor]:
    """Somebody who has not signed in."""
    with closing(Visitor(guarded.base_url)) as found:
        yield found


def made(broker: BrokerProcess, name: str, *scopes: str) -> str:
    """Make a key."""
    answer = broker.api.http.post("/v1/keys", json={"name": name, "scopes": scopes})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def sign_in(visitor: Visitor, key: str, address: str = "/", status: int = 200) -> Page:
    """Go to an address, and hand over a key where one is asked for."""
    (form,) = visitor.open(address).forms
    return visitor.send(form, status, key=key)


def test_every_page_has_a_rule_and_every_rule_a_page() -> None:
    assert {page for page, _, _ in ROUTES} == CALLS.keys() | OPEN_PAGES
    assert set(CALLS.values()) <= PERMISSIONS.keys()


@pytest.mark.parametrize("who", SCOPES)
@pytest.mark.parametrize(("page", "method", "path"), GUARDED, ids=lambda part: str(part))
def test_page_lets_in_exactly_whom_the_call_behind_it_does(
    signed_in: dict[str, Visitor], page: str, method: str, path: str, who: str
) -> None:
    answer = signed_in[who].http.request(
        method, path, headers={"Sec-Fetch-Site": "same-origin"}, data={"data": "1", "to": "now"}
    )

    needs = PERMISSIONS[CALLS[page]]
    topic = None if needs.on == "all" else "orders"
    scopes = [scope.partition(":") for scope in SCOPES[who]]
    expected = any(
        action == "admin"
        or (action in needs.actions and (needs.on == "any" or pattern in {"*", topic}))
        for action, _, pattern in scopes
    )
    assert (answer.status_code != 403) == expected
    page_of(answer, answer.status_code) if answer.status_code != 303 else None


@pytest.mark.parametrize(("page", "method", "path"), GUARDED, ids=lambda part: str(part))
def test_page_leads_whoever_has_not_signed_in_to_where_that_is_done(
    visitor: Visitor, page: str, method: str, path: str
) -> None:
    answer = visitor.http.request(method, path, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_live_part_leads_there_as_well(visitor: Visitor) -> None:
    answer = visitor.http.get("/", headers={"HX-Request": "true"})

    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/login")


def test_key_is_taken_for_a_session_that_does_not_hold_it(
    guarded: BrokerProcess, visitor: Visitor, key_of: dict[str, str]
) -> None:
    page = sign_in(visitor, key_of["read"], "/topics/orders")

    assert page.title.startswith("orders")
    assert '"action": "signed_in", "key_name": "read"' in guarded.log()
    (cookie,) = visitor.http.cookies.jar
    assert cookie.name == COOKIE
    assert cookie.value is not None
    assert key_of["read"] not in cookie.value
    assert not cookie.secure
    set_cookie = visitor.http.post(
        "/login", data={"key": key_of["read"]}, headers={"Sec-Fetch-Site": "same-origin"}
    ).headers["set-cookie"]
    assert "HttpOnly" in set_cookie
    assert "SameSite=Strict" in set_cookie
    behind_tls = visitor.http.post(
        "/login",
        data={"key": key_of["read"]},
        headers={"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"},
    ).headers["set-cookie"]
    assert "Secure" in behind_tls
    assert behind_tls.startswith(f"__Host-{COOKIE}=")
    assert "Path=/" in behind_tls


@pytest.mark.parametrize("key", ["", "brk_wrong", "\u00e9\u0000", "x" * 100_000])
def test_wrong_key_is_refused(guarded: BrokerProcess, visitor: Visitor, key: str) -> None:
    answer = visitor.http.post(
        "/login", data={"key": key}, headers={"Sec-Fetch-Site": "same-origin"}
    )

    page = page_of(answer, 401)
    assert "This is no key of this broker." in page.text
    assert COOKIE not in visitor.http.cookies
    log = guarded.log()
    assert '"action": "login_refused", "address": "127.0.0.1"' in log
    assert '"level": "error"' not in log
    assert not key or key not in log


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_to_no_other_host(
    visitor: Visitor, key_of: dict[str, str], address: str
) -> None:
    answer = visitor.http.post(
        "/login",
        data={"key": key_of["read"], "next": address},
        headers={"Sec-Fetch-Site": "same-origin"},
    )

    assert answer.headers["location"] == "/"


def test_session_ends_when_its_owner_signs_out(visitor: Visitor, key_of: dict[str, str]) -> None:
    page = sign_in(visitor, key_of["read"])
    kept = visitor.http.cookies[COOKIE]

    visitor.send(page.form("/logout"))

    assert COOKIE not in visitor.http.cookies
    again = visitor.http.get("/", headers={"Cookie": f"{COOKIE}={kept}"})
    assert again.headers["location"].startswith("/login")


def test_session_ends_with_its_key(guarded: BrokerProcess, visitor: Visitor) -> None:
    key = made(guarded, "short-lived", "read:*")
    sign_in(visitor, key)
    assert visitor.http.get("/").status_code == 200
    keys = guarded.api.http.get("/v1/keys").json()["keys"]
    (id_,) = [each["id"] for each in keys if each["name"] == "short-lived"]

    guarded.api.http.delete(f"/v1/keys/{id_}")

    assert visitor.http.get("/").status_code == 303


def test_pages_show_only_what_the_key_is_for(
    guarded: BrokerProcess, signed_in: dict[str, Visitor]
) -> None:
    reader, everywhere = signed_in["read"], signed_in["read everywhere"]
    eventually(lambda: "orders/s" in reader.open("/").cells)

    for path in ("/", "/topics", "/subscriptions"):
        assert "other" not in " ".join(reader.open(path).cells)
        assert "other" in " ".join(everywhere.open(path).cells)
    assert "a second" not in reader.open("/").text
    assert "a second" in everywhere.open("/").text
    page = reader.open("/topics/orders")
    assert not [form for form in page.forms if form.action.endswith("/publish")]
    (only,) = reader.open("/topics/orders/subscriptions/s").forms
    assert only.action.endswith("/logout")
    assert "curl" not in signed_in["publish"].open("/topics/orders").text


def test_stream_takes_the_session_and_no_other_call_does(
    signed_in: dict[str, Visitor], visitor: Visitor
) -> None:
    def opened(who: Visitor, topic: str) -> int:
        with who.http.stream("GET", f"/v1/topics/{topic}/stream") as answer:
            return answer.status_code

    reader = signed_in["read"]
    assert opened(reader, "orders") == 200
    assert opened(reader, "other") == 403
    assert opened(visitor, "orders") == 401
    assert reader.http.get("/v1/topics").status_code == 401
    assert signed_in["admin"].http.post("/v1/topics/orders/messages", json=1).status_code == 401
    wrong = {"Authorization": "Bearer brk_wrong"}
    with reader.http.stream("GET", "/v1/topics/orders/stream", headers=wrong) as answer:
        assert answer.status_code == 401


def test_guessing_is_slowed_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = BrokerProcess(
        tmp_path_factory.mktemp("guessed"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(running.start()), closing(Visitor(running.base_url)) as visitor:

        def guess(key: str) -> httpx.Response:
            headers = {"Sec-Fetch-Site": "same-origin"}
            return visitor.http.post("/login", data={"key": key}, headers=headers)

        assert [guess("brk_wrong").status_code for _ in range(10)] == [401] * 10
        refused = guess(ADMIN_KEY)

    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "Try again in" in page_of(refused, 429).text


def test_nobody_signs_in_where_keys_are_off(broker: BrokerProcess) -> None:
    with closing(Visitor(broker.base_url)) as visitor:
        page = visitor.open("/login")
        assert page.title.startswith("Overview")
        assert page.forms == []
