"""The pages at `/`: what they show, what they do, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from support.api import INSTANT_RETRY, Api
from support.broker_process import BrokerProcess, StartBroker
from support.endpoint import Answer, Endpoint, always, by_attempt
from support.eventually import eventually
from support.page import Page, Visitor
from support.problem import read_problem

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;{{7*7}}"


@pytest.fixture
def visitor(broker: BrokerProcess) -> Iterator[Visitor]:
    """Somebody at the shared broker's pages."""
    with closing(Visitor(broker.base_url)) as found:
        yield found


def subscription(topic: str, name: str = "s") -> str:
    """Return where a subscription's page is."""
    return f"/topics/{topic}/subscriptions/{name}"


# -- what is shown -----------------------------------------------------------------------------


def test_empty_broker_says_what_to_do_next(start_broker: StartBroker) -> None:
    running = start_broker()
    with closing(Visitor(running.base_url)) as visitor:
        assert f"curl {running.base_url}/v1/topics/order/messages" in visitor.open("/").text
        assert "curl" in visitor.open("/topics").text
        assert "curl -X PUT" in visitor.open("/subscriptions").text

        running.api.ok_publish("order", 1)
        said = f"curl -X PUT {running.base_url}/v1/topics/order/subscriptions/mine"
        eventually(lambda: said in visitor.open("/").text)
        assert said in visitor.open("/topics/order").text


def test_overview_puts_what_needs_a_look_first(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    running = start_broker()
    api = running.api
    for name in ("a-well", "b-paused"):
        api.ok_subscribe("order", endpoint.url, name)
    api.put_subscription("order", "c-pulled")
    api.pause("order", "b-paused")
    for number in range(3):
        api.ok_publish("order", number)

    with closing(Visitor(running.base_url)) as visitor:

        def shown() -> list[str]:
            return visitor.open("/").row("order/b-paused")

        eventually(lambda: shown()[:3] == ["order/b-paused", "paused", "3"])
        assert shown()[8:11] == ["order/c-pulled", "active", "3"]
        page = visitor.open("/")
        assert "1 of 3 need a look" in page.text
        assert "a second" in page.text
        assert "order/c-pulled" not in visitor.open("/subscriptions?troubled=1").text
        assert "order/b-paused" not in visitor.open("/subscriptions?q=c-pul").text


def test_live_part_is_only_the_part_that_changes(visitor: Visitor) -> None:
    answer = visitor.http.get("/", headers={"HX-Request": "true"})

    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "<h1" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_topic_shows_its_settings_and_subscriptions(visitor: Visitor, api: Api, topic: str) -> None:
    api.put_topic(topic, schema={"type": "object"}, retention={"max_age_s": 7200})
    api.put_subscription(topic, "mine")
    page = visitor.open(f"/topics/{topic}")

    assert topic in page.title
    assert "2 h" in page.text
    assert '"type": "object"' in page.text
    eventually(lambda: "mine" in visitor.open(f"/topics/{topic}").cells)
    assert f"{visitor.http.base_url}/topics/{topic}/messages" in page.links
    assert topic in visitor.open(f"/topics?q={topic}").cells


def test_lists_have_pages(start_broker: StartBroker) -> None:
    running = start_broker()
    for number in range(53):
        running.api.put_subscription("order", f"s-{number:02}")
        running.api.put_topic(f"t-{number:02}")

    with closing(Visitor(running.base_url)) as visitor:
        eventually(lambda: "Page 1 of 2" in visitor.open("/subscriptions").text)
        first, second = (visitor.open(f"/subscriptions?page={page}") for page in (1, 2))
        names = [cell for page in (first, second) for cell in page.cells if "order/s-" in cell]
        assert len(names) == len(set(names)) == 53
        assert "t-52" in visitor.open("/topics?page=2").cells
        assert "t-52" not in visitor.open("/topics").cells
        assert "Page 2 of 2" in visitor.open("/topics?page=99").text
        assert f"{running.base_url}/topics?page=2" in visitor.open("/topics").links


def test_subscription_shows_how_it_stands(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422, body=b"no <such> customer"))
    api.ok_subscribe(topic, endpoint.url, when_exhausted="block", ordering="key")
    for _ in range(2):
        api.ok_publish(topic, 1, key="k")
    eventually(lambda: api.ok_status(topic)["blocked_keys"] == 1)

    page = visitor.open(subscription(topic))

    assert endpoint.url in page.text
    assert "Blocked: waits for you" in page.text
    assert "the endpoint answered 422" in page.text
    assert "Behind their key" in page.text
    assert "whsec_" not in page.text


def test_messages_are_found_by_place_key_type_and_time(
    visitor: Visitor, api: Api, topic: str
) -> None:
    for number in range(120):
        api.ok_publish(topic, number, key=f"k-{number % 3}", type=f"type-{number % 2}")

    newest = visitor.open(f"/topics/{topic}/messages")
    assert "120" in newest.cells
    assert "70" not in newest.cells
    (older,) = [link for link in newest.links if link.endswith("after=20")]
    assert {"21", "70"} <= set(visitor.open(older).cells)
    search = newest.form("/messages")
    found = visitor.send(search, key="k-1", type="type-1")
    assert {"2", "8"} & set(found.cells) == {"2", "8"}
    assert "3" not in found.cells
    assert visitor.send(search, sequence="7").title.startswith("Message 7")
    stored = api.get_message(topic, 1).json()["time"]
    assert visitor.send(search, at=stored[:19]).row("1")
    assert "No message is left" in visitor.send(search, at="2100-01-01T00:00:00Z").text
    assert "must be a time" in visitor.send(search, 422, at="yesterday").text
    assert "whole number" in visitor.send(search, 422, sequence="first").text
    assert "No message is like this" in visitor.send(search, key="k-9").text


def test_message_is_found_by_its_id(visitor: Visitor, api: Api, topic: str) -> None:
    for number in range(60):
        api.ok_publish(topic, number)
    chosen = api.ok_publish(topic, "chosen", id="o-17 <b>&", source="/shop")
    made = api.ok_publish(topic, "made")
    made_id = api.get_message(topic, made).json()["id"]
    twice = [api.ok_publish(topic, n, id="twice", source=f"/{n}") for n in range(2)]
    assert api.publish(topic, 1, id="waits", deliverat="2100-01-01T00:00:00Z").is_success
    for number in range(60):
        api.ok_publish(topic, number)
    search = visitor.open(f"/topics/{topic}/messages").form("/messages")

    assert visitor.send(search, id="o-17 <b>&").title.startswith(f"Message {chosen} ")
    found = visitor.send(search, id=made_id)
    assert {str(made), made_id} <= set(found.cells)
    assert found.cells.count("order.created") <= 1
    both = visitor.send(search, id="twice")
    assert {str(each) for each in twice} <= set(both.cells)
    assert str(chosen) not in both.cells
    for none in ("waits", "o-17", "' OR 1 --", "00000000-0000-7000-8000-000000000000"):
        assert "No message is like this" in visitor.send(search, id=none).text


def test_id_that_nobody_remembers_is_looked_for_in_the_log(
    visitor: Visitor, api: Api, topic: str
) -> None:
    api.put_topic(topic, dedup_window_s=1)
    first = api.ok_publish(topic, "old", id="old")
    search = visitor.open(f"/topics/{topic}/messages").form("/messages")
    eventually(lambda: visitor.send(search, id="old").title.startswith("Messages"))

    assert str(first) in visitor.send(search, id="old").cells


def test_journey_tells_what_became_of_a_message_for_each_subscription(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    with (
        Endpoint(by_attempt(Answer(503, body=b"busy"), Answer())) as second,
        Endpoint(always(Answer(422, body=b"<b>never</b>"))) as third,
    ):
        api.ok_subscribe(topic, endpoint.url, "at-once")
        api.ok_subscribe(topic, second.url, "at-second")
        api.ok_subscribe(topic, third.url, "gives-up", retry=INSTANT_RETRY)
        api.ok_subscribe(topic, endpoint.url, "waits")
        api.pause(topic, "waits")
        api.put_subscription(topic, "pulls", ack_deadline_s=300)
        sequence = api.ok_publish(topic, {"n": 1}, key="k")
        eventually(lambda: len(api.attempts(topic, sequence, "at-second")) == 1)
        eventually(lambda: api.ok_status(topic, "gives-up")["dead_letters"] == 1)
        for name in ("at-once", "at-second"):
            eventually(lambda name=name: api.backlog(topic, name) == 0)  # type: ignore[misc]

        fates = fates_of(visitor.open(f"/topics/{topic}/messages/{sequence}"))
        assert fates["at-once"][0] == "settled"
        assert fates["at-second"][0] == "settled"
        assert "after 1 failed attempt" in fates["at-second"][1]
        assert "503" in fates["at-second"][1]
        assert "busy" in fates["at-second"][1]
        assert fates["gives-up"][0] == "dead letter"
        assert "<b>never</b>" in fates["gives-up"][1]
        assert fates["waits"][0] == "to come"
        assert fates["pulls"][0] == "to come"

        (taken,) = api.act(topic, "pull", "pulls", {"max_messages": 1}).json()["deliveries"]
        page = visitor.open(f"/topics/{topic}/messages/{sequence}")
        assert fates_of(page)["pulls"][0] == "in flight"
        api.act(topic, "ack", "pulls", {"ack_ids": [taken["ack_id"]]})
        page = visitor.open(f"/topics/{topic}/messages/{sequence}")
        assert fates_of(page)["pulls"][0] == "settled"


def fates_of(page: Page) -> dict[str, tuple[str, str]]:
    """Read a journey: for each subscription its state and what is said of it."""
    names = ("at-once", "at-second", "gives-up", "pulls", "waits")
    states = ("settled", "dead letter", "to come", "in flight", "retrying", "blocked")
    text = page.text.partition("What became of it")[2].partition("Data")[0]
    found = {}
    for name, following in zip(names, [*names[1:], "\0"], strict=True):
        said = text.partition(name)[2].partition(following)[0].strip()
        (state,) = [state for state in states if said.startswith(state)]
        found[name] = (state, said)
    return found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/topics/none-such", 404),
        ("/topics/none-such/subscriptions/s", 404),
        ("/topics/none-such/messages", 404),
        ("/topics/none-such/messages/1", 404),
        ("/topics/none-such/tail", 404),
        ("/topics/none-such/subscriptions/s/seek?to=now", 404),
        ("/topics/none-such/subscriptions/s/rotate-secret", 404),
        ("/topics/none-such/subscriptions/s/dead-letters", 404),
        ("/topics/%3Cscript%3E", 422),
    ],
)
def test_what_is_not_there_is_a_page_too(visitor: Visitor, path: str, status: int) -> None:
    page = visitor.open(path, status)

    assert str(status) in page.text
    assert f"{visitor.http.base_url}/" in page.links


def test_other_paths_are_refused_as_before(api: Api) -> None:
    read_problem(api.http.get("/nothing"), 404)
    read_problem(api.http.post("/"), 405)
    read_problem(api.http.get("/static/../../service.py"), 404)


@pytest.mark.parametrize("place", ["type", "id", "key", "source", "data", "answer"])
def test_no_value_of_a_message_is_taken_for_markup(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint, place: str
) -> None:
    endpoint.script = always(Answer(422, body=HOSTILE.encode() if place == "answer" else b""))
    api.ok_subscribe(topic, endpoint.url, headers={"x-mine": HOSTILE.replace("\n", "")})
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "1",
        "source": "/here",
        "type": "t",
        "data": {"a": 1},
        "partitionkey": "k",
    }
    named = {"key": "partitionkey", "source": "source"}.get(place, place)
    if place == "source":
        event[named] = "/a?%22%3E%3Cscript%3E'onload='x"
    elif place != "answer":
        event[named] = HOSTILE
    assert api.publish_event(topic, event).is_success
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)

    for path in (
        f"/topics/{topic}/messages",
        f"/topics/{topic}/messages/1",
        f"{subscription(topic)}/dead-letters",
        f"{subscription(topic)}/dead-letters/1/delete",
        subscription(topic),
    ):
        visitor.open(path)  # which refuses a page with a script, a handler, or what is not closed
        source = visitor.http.get(path).text
        assert "<script>alert" not in source
        assert "<img src=x" not in source


@pytest.mark.parametrize(
    "path",
    [
        "/topics?q={}",
        "/subscriptions?q={}",
        "/topics/{topic}/messages?key={}&type={}&at={}",
        "/topics/{topic}/subscriptions/s/seek?to={}",
        "/topics/{topic}?done={}&stored={}",
        "/topics/{topic}?stored=-1&done=nothing",
    ],
)
def test_no_value_of_an_address_is_taken_for_markup(
    visitor: Visitor, api: Api, topic: str, path: str
) -> None:
    api.put_subscription(topic, "s")
    address = path.replace("{topic}", topic).replace("{}", str(httpx.QueryParams(a=HOSTILE))[2:])

    answer = visitor.http.get(address)

    assert answer.status_code in (200, 422)
    assert "<script>alert" not in answer.text
    Page(answer.text, str(answer.url))


# -- what can be done --------------------------------------------------------------------------


def test_message_can_be_published(visitor: Visitor, api: Api, topic: str) -> None:
    api.put_topic(topic)
    form = visitor.open(f"/topics/{topic}").form("/publish")

    page = visitor.send(form, type="shop.ordered", partitionkey="k 1", data='{"né": [1, 2]}')

    assert "Stored as message 1" in page.text
    event = api.get_message(topic, 1).json()
    assert (event["type"], event["partitionkey"]) == ("shop.ordered", "k 1")
    assert event["data"] == {"né": [1, 2]}
    plain = visitor.send(form, type="", partitionkey="", data="null")
    assert "message 2" in plain.text
    assert api.get_message(topic, 2).json()["type"] == topic


def test_message_that_cannot_be_published_says_why_and_keeps_what_was_written(
    visitor: Visitor, api: Api, topic: str
) -> None:
    api.put_topic(topic, schema={"type": "object", "required": ["n"]})
    form = visitor.open(f"/topics/{topic}").form("/publish")

    page = visitor.send(form, 422, type="shop.ordered", partitionkey="", data="{not json")
    assert "must be JSON" in page.text
    assert "{not json" in page.text
    assert page.form("/publish").fields["type"] == "shop.ordered"
    assert '"n"' in visitor.send(form, 422, type="", partitionkey="", data="{}").text
    assert api.get_topic(topic).json()["message_count"] == 0


def test_publishing_makes_no_topic(visitor: Visitor, api: Api, topic: str) -> None:
    api.put_topic(topic)
    form = visitor.open(f"/topics/{topic}").form("/publish")
    api.delete_topic(topic)

    visitor.send(form, 404, type="", partitionkey="", data="1")

    read_problem(api.get_topic(topic), 404)


def test_subscription_says_why_nothing_is_sent_without_consent(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.consent = always(Answer(405))
    api.ok_subscribe(topic, endpoint.url, consent="required")
    eventually(lambda: "405" in visitor.open(subscription(topic)).text)

    page = visitor.open(subscription(topic))
    assert "has not agreed to be sent to" in page.text
    assert "required: awaited" in page.text
    eventually(lambda: "no consent" in visitor.open(f"/subscriptions?q={topic}").text)


def test_subscription_is_paused_and_resumed(visitor: Visitor, api: Api, topic: str) -> None:
    api.put_subscription(topic, "s")

    page = visitor.send(visitor.open(subscription(topic)).form("/pause"))
    assert "What comes waits here" in page.text
    assert "Paused by request." in page.text
    assert api.ok_status(topic)["state"] == "paused"

    page = visitor.send(page.form("/resume"))
    assert "Resumed." in page.text
    assert api.ok_status(topic)["state"] == "active"


def test_seek_is_tried_before_it_is_done(visitor: Visitor, api: Api, topic: str) -> None:
    for number in range(5):
        api.ok_publish(topic, number)
    api.put_subscription(topic, "s")
    asked = visitor.open(f"{subscription(topic)}/seek")
    (trying,) = asked.forms

    assert "must be now" in visitor.send(trying, 422, to="soon").text
    tried = visitor.send(trying, to="3")
    assert "owed 3 messages" in tried.text
    assert api.backlog(topic) == 0
    (moving,) = [form for form in tried.forms if form.method == "post"]
    assert "Moved." in visitor.send(moving).text
    assert api.backlog(topic) == 3


def test_secret_is_rotated_and_shown_once(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    old = api.ok_subscribe(topic, endpoint.url)["secret"]
    (asking,) = visitor.open(f"{subscription(topic)}/rotate-secret").forms

    page = visitor.send(asking)

    assert "whsec_" in page.text
    assert old not in page.text
    assert "whsec_" not in visitor.open(subscription(topic)).text


def test_subscription_is_deleted_once_that_is_confirmed(
    visitor: Visitor, api: Api, topic: str
) -> None:
    api.ok_publish(topic, 1)
    api.put_subscription(topic, "s", start="beginning")
    asked = visitor.open(f"{subscription(topic)}/delete")

    assert "backlog of 1" in asked.text
    assert api.get_subscription(topic, "s").is_success
    (form,) = asked.forms
    assert "Deleted." in visitor.send(form).text
    read_problem(api.get_subscription(topic, "s"), 404)


def test_dead_letters_are_replayed_and_deleted(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    for number in range(30):
        api.ok_publish(topic, number)
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 30)
    first = visitor.open(f"{subscription(topic)}/dead-letters")
    assert "Message 25" in first.text
    assert "Message 26" not in first.text
    (following,) = [link for link in first.links if link.endswith("after=25")]
    assert "Message 30" in visitor.open(following).text

    (asked,) = visitor.open(f"{subscription(topic)}/dead-letters/2/delete").forms
    assert "is deleted" in visitor.send(asked).text
    assert api.ok_status(topic)["dead_letters"] == 29
    endpoint.script = always(Answer())
    one = next(form for form in first.forms if form.fields.get("sequence") == "3")
    assert "owed again" in visitor.send(one).text
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 28)
    (all_,) = visitor.open(f"{subscription(topic)}/dead-letters/replay").forms
    assert "There are none" in visitor.send(all_).text
    eventually(lambda: api.backlog(topic) == 0)


def test_blocked_delivery_is_retried_or_given_up(
    visitor: Visitor, api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url, when_exhausted="block", ordering="none")
    for number in range(2):
        api.ok_publish(topic, number)
    eventually(lambda: len(api.deliveries(topic, "blocked")) == 2)
    endpoint.script = always(Answer())

    visitor.send(visitor.open(f"/topics/{topic}/messages/1").form("/1/retry"))
    eventually(lambda: len(api.deliveries(topic, "blocked")) == 1)
    (asked,) = visitor.open(f"{subscription(topic)}/deliveries/2/dead-letter").forms
    assert "It is a dead letter now." in visitor.send(asked).text
    assert [letter["sequence"] for letter in api.dead_letters(topic)] == [2]


# -- what is refused ---------------------------------------------------------------------------

ACTS = (
    "/topics/{}/publish",
    "/topics/{}/subscriptions/s/pause",
    "/topics/{}/subscriptions/s/resume",
    "/topics/{}/subscriptions/s/rotate-secret",
    "/topics/{}/subscriptions/s/seek",
    "/topics/{}/subscriptions/s/delete",
    "/topics/{}/subscriptions/s/deliveries/1/retry",
    "/topics/{}/subscriptions/s/deliveries/1/dead-letter",
    "/topics/{}/subscriptions/s/dead-letters/replay",
    "/topics/{}/subscriptions/s/dead-letters/1/delete",
)
FOREIGN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{base}"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "{base}.evil.example"},
    {"Referer": "{base}/"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ACTS)
def test_act_that_comes_from_elsewhere_is_refused(
    visitor: Visitor, broker: BrokerProcess, path: str, headers: dict[str, str]
) -> None:
    filled = {name: value.format(base=broker.base_url) for name, value in headers.items()}

    answer = visitor.http.post(path.format("none-such"), headers=filled)

    assert answer.status_code == 403
    assert "own pages" in answer.text


@pytest.mark.parametrize("path", ACTS)
def test_act_that_comes_from_a_page_of_ours_gets_through(
    visitor: Visitor, broker: BrokerProcess, path: str
) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": broker.base_url}):
        answer = visitor.http.post(
            path.format("none-such"), headers=headers, data={"to": "now", "data": "1"}
        )
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize("path", ACTS)
def test_nothing_is_done_by_looking(visitor: Visitor, api: Api, topic: str, path: str) -> None:
    api.put_subscription(topic, "s")
    api.ok_publish(topic, 1)
    before = api.ok_status(topic), api.get_topic(topic).json()

    visitor.http.get(path.format(topic), params={"to": "beginning"})

    after = api.ok_status(topic), api.get_topic(topic).json()
    for status in (before[0], after[0]):
        status.pop("oldest_unsettled_s")
    assert after == before
