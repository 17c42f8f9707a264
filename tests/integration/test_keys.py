"""API keys over HTTP: who gets in, and to what."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.auth import Keys, Needs
from broker.control import create_app
from broker.control.permissions import PERMISSIONS
from support.broker_process import BrokerProcess
from support.problem import read_problem

ADMIN_KEY = "an-admin-key-of-the-tests"
SCOPES = {
    "none": [],
    "publish": ["publish:orders"],
    "subscribe": ["subscribe:orders"],
    "read": ["read:orders"],
    "all of another topic": ["publish:other", "subscribe:other", "read:other"],
    "publish by pattern": ["publish:ord*"],
    "subscribe everywhere": ["subscribe:*"],
    "read everywhere": ["read:*"],
    "admin": ["admin"],
}
VALUES = {
    "topic": "orders",
    "name": "none-such",
    "sequence": "999999",
    "id_": "none-such",
    "token": "x.y",
}


def routes() -> list[tuple[str, str, str]]:
    """Return every endpoint of the control plane with a method and a path that reach it."""
    app = create_app(None, Keys(None, on=False))  # type: ignore[arg-type]
    found = []
    for rule in app.url_map.iter_rules():
        path = rule.build({name: _value(rule, name) for name in rule.arguments})[1]  # type: ignore[index]
        methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        found += [(rule.endpoint, method, path) for method in methods]
    return found


def _value(rule: Any, name: str) -> Any:
    converter = type(rule._converters[name]).__name__
    return int(VALUES["sequence"]) if converter == "SequenceConverter" else VALUES[name]


ROUTES = routes()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with keys on."""
    running = BrokerProcess(
        tmp_path_factory.mktemp("guarded"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(running.start()):
        yield running


@pytest.fixture(scope="module")
def admin(guarded: BrokerProcess) -> Iterator[httpx.Client]:
    with client(guarded, ADMIN_KEY) as opened:
        assert opened.put("/v1/topics/orders").is_success
        yield opened


@pytest.fixture(scope="module")
def key_of(admin: httpx.Client) -> dict[str, str]:
    """A key for each set of scopes."""
    return {
        name: create(admin, name.replace(" ", "-"), scopes)["key"]
        for name, scopes in SCOPES.items()
        if scopes
    }


def client(broker: BrokerProcess, key: str | None = None) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(keepalive_expiry=1.0)
    return httpx.Client(
        base_url=broker.base_url, headers=headers, timeout=15, trust_env=False, limits=limits
    )


def create(admin: httpx.Client, name: str, scopes: list[str], **more: Any) -> dict[str, Any]:
    answer = admin.post("/v1/keys", json={"name": name, "scopes": scopes, **more})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert {endpoint for endpoint, _, _ in ROUTES} == set(PERMISSIONS)


@pytest.mark.parametrize("who", SCOPES)
@pytest.mark.parametrize(("endpoint", "method", "path"), ROUTES, ids=lambda part: str(part))
def test_route_lets_in_exactly_whom_its_rule_names(
    guarded: BrokerProcess,
    admin: httpx.Client,
    key_of: dict[str, str],
    endpoint: str,
    method: str,
    path: str,
    who: str,
) -> None:
    with (
        client(guarded, key_of.get(who)) as caller,
        caller.stream(method, path) as answer,  # one of them never ends
    ):
        if not answer.is_success:
            answer.read()

    needs = PERMISSIONS[endpoint]
    if not needs.actions:
        assert answer.status_code not in (401, 403) or answer.json()["code"] == "invalid_ack_url"
    elif not SCOPES[who]:
        assert read_problem(answer, 401).code == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
    elif expected(needs, SCOPES[who]):
        assert answer.status_code not in (401, 403)
    else:
        assert read_problem(answer, 403).code == "forbidden"
    if endpoint == "topics.delete_topic":
        admin.put("/v1/topics/orders")
    if endpoint == "subscriptions.put_subscription":
        admin.delete(path)


def expected(needs: Needs, scopes: list[str]) -> bool:
    """Say, by other means than the broker's, whether these scopes are enough."""
    if "admin" in scopes:
        return True
    for action, scope in itertools.product(needs.actions, scopes):
        if scope.startswith(f"{action}:") and (
            needs.on == "any"
            or scope.endswith(":*")
            or (needs.on == "topic" and scope in (f"{action}:orders", f"{action}:ord*"))
        ):
            return True
    return False


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic YTpi", "Bearer", "", ADMIN_KEY])
@pytest.mark.parametrize("path", ["/v1/topics", "/v1/nothing", "/v1/topics/orders/messages"])
def test_without_a_good_key_nobody_learns_what_is_there(
    guarded: BrokerProcess, header: str, path: str
) -> None:
    with client(guarded) as anyone:
        for method in ("GET", "POST"):
            answer = anyone.request(method, path, headers={"Authorization": header}, content=b"1")
            assert read_problem(answer, 401).code == "unauthorized"


def test_list_of_topics_shows_those_the_key_is_for(
    guarded: BrokerProcess, admin: httpx.Client, key_of: dict[str, str]
) -> None:
    admin.put("/v1/topics/other")

    with client(guarded, key_of["read"]) as reader, client(guarded, ADMIN_KEY) as everything:
        assert [each["name"] for each in reader.get("/v1/topics").json()["topics"]] == ["orders"]
        shown = [each["name"] for each in everything.get("/v1/topics").json()["topics"]]
        assert {"orders", "other"} <= set(shown)


def test_key_is_shown_once_and_kept_as_a_digest(
    guarded: BrokerProcess, admin: httpx.Client
) -> None:
    made = create(admin, "shown-once", ["publish:orders", "publish:orders", "read:ord*"])

    shown = admin.get(f"/v1/keys/{made['id']}").json()
    assert made["key"].startswith("brk_")
    assert made == shown | {"key": made["key"]}
    assert shown["scopes"] == ["publish:orders", "read:ord*"]
    assert shown["last_used_at"] is None
    assert shown in admin.get("/v1/keys").json()["keys"]
    for file in guarded.folder.iterdir():
        assert made["key"].encode() not in file.read_bytes(), file
        assert ADMIN_KEY.encode() not in file.read_bytes(), file


def test_use_of_a_key_is_shown(guarded: BrokerProcess, admin: httpx.Client) -> None:
    made = create(admin, "used", ["publish:orders"])
    with client(guarded, made["key"]) as publisher:
        assert publisher.post("/v1/topics/orders/messages", content=b"1").status_code == 201

    shown = admin.get(f"/v1/keys/{made['id']}").json()
    assert shown["last_used_at"] >= made["created_at"]


def test_revoked_key_opens_nothing_any_more(guarded: BrokerProcess, admin: httpx.Client) -> None:
    made = create(admin, "revoked", ["publish:orders"])
    with client(guarded, made["key"]) as publisher:
        assert publisher.post("/v1/topics/orders/messages", content=b"1").status_code == 201

        assert admin.delete(f"/v1/keys/{made['id']}").status_code == 204

        read_problem(publisher.post("/v1/topics/orders/messages", content=b"1"), 401)
    assert read_problem(admin.get(f"/v1/keys/{made['id']}"), 404).code == "key_not_found"
    assert read_problem(admin.delete(f"/v1/keys/{made['id']}"), 404).code == "key_not_found"


def test_stream_ends_with_its_key(guarded: BrokerProcess, admin: httpx.Client) -> None:
    made = create(admin, "watcher", ["read:orders"])
    with (
        client(guarded, made["key"]) as watcher,
        watcher.stream("GET", "/v1/topics/orders/stream") as answer,
    ):
        lines = answer.iter_lines()
        admin.post("/v1/topics/orders/messages", json="seen")
        while '"seen"' not in next(lines):
            pass
        assert admin.delete(f"/v1/keys/{made['id']}").status_code == 204
        admin.post("/v1/topics/orders/messages", json="not for them")

        assert not any("not for them" in line for line in lines)


def test_keys_outlive_a_kill(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path, BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY)
    with closing(broker.start()):
        with client(broker, ADMIN_KEY) as admin:
            kept = create(admin, "kept", ["publish:*"])
            gone = create(admin, "gone", ["publish:*"])
            admin.delete(f"/v1/keys/{gone['id']}")
        broker.kill()
        broker.start()

        with client(broker, kept["key"]) as publisher:
            assert publisher.post("/v1/topics/new/messages", content=b"1").status_code == 201
        with client(broker, gone["key"]) as publisher:
            read_problem(publisher.post("/v1/topics/new/messages", content=b"1"), 401)


def test_chosen_key_may_be_brought_again_and_changes_nothing(
    guarded: BrokerProcess, admin: httpx.Client
) -> None:
    chosen = "chosen-" + "x" * 40
    body = {"name": "chosen", "scopes": ["read:orders"], "key": chosen}
    first, again = admin.post("/v1/keys", json=body), admin.post("/v1/keys", json=body)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    with client(guarded, chosen) as reader:
        assert reader.get("/v1/topics/orders").status_code == 200
    other = admin.post("/v1/keys", json=body | {"scopes": ["admin"]})
    assert read_problem(other, 409).code == "key_name_taken"
    same_key = admin.post("/v1/keys", json=body | {"name": "another"})
    assert read_problem(same_key, 409).code == "key_name_taken"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "scopes"]),
        ({"name": "a b", "scopes": ["admin"]}, ["name"]),
        ({"name": 1, "scopes": ["admin"]}, ["name"]),
        ({"name": "a"}, ["scopes"]),
        ({"name": "a", "scopes": []}, ["scopes"]),
        ({"name": "a", "scopes": "admin"}, ["scopes"]),
        ({"name": "a", "scopes": ["admin"] * 51}, ["scopes"]),
        (
            {"name": "a", "scopes": ["admin", "publish", "x:y", 7]},
            ["scopes[1]", "scopes[2]", "scopes[3]"],
        ),
        (
            {"name": "a", "scopes": ["publish:", "read:a*b", "admin:x", "read:-"]},
            [f"scopes[{n}]" for n in range(4)],
        ),
        ({"name": "a", "scopes": ["admin"], "key": "short"}, ["key"]),
        ({"name": "a", "scopes": ["admin"], "key": "x" * 257}, ["key"]),
        ({"name": "a", "scopes": ["admin"], "key": "ä" * 40}, ["key"]),
        ({"name": "a", "scopes": ["admin"], "colour": 1}, ["colour"]),
    ],
)
def test_wrong_key_is_refused_with_its_fields(
    admin: httpx.Client, body: dict[str, Any], fields: list[str]
) -> None:
    before = admin.get("/v1/keys").json()

    problem = read_problem(admin.post("/v1/keys", json=body), 422)

    assert problem.fields == fields
    assert admin.get("/v1/keys").json() == before
