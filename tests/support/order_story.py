"""A small shop's use of every call of the broker, and what each was answered.

`python -m support.order_story` plays it and writes it down as the examples of the description.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from support.api import accepted
from support.broker_process import ROOT, BrokerProcess
from support.cloudevent import BATCH, STRUCTURED, Json
from support.endpoint import Answer, Endpoint, Received, verdict
from support.eventually import eventually

EXAMPLES = ROOT / "broker" / "broker" / "control" / "examples.json"
JSON = "application/json"
# What stands in the examples instead of what only this play had.
ENDPOINT = "http://localhost:9/webhooks/order"
KEY_ID = "a96fd2b1c7c4"
# What no two plays have in common: fields, and how values begin.
OF_ONE_PLAY = frozenset(
    {"at", "created_at", "dead_at", "next_attempt_at", "duration_ms", "oldest_unsettled_s"}
    | {"ack_id", "ack_ids", "secret"}
)
SECRETS = ("brk_", "whsec_")

SHIPPING = "/v1/topics/order/subscriptions/shipping"
PACKING = "/v1/topics/order/subscriptions/packing"
ORDER = {
    "id": "42",
    "customer_id": "customer-7",
    "item_id": "hat",
    "quantity": 2,
    "price": 19.9,
    "total": 39.8,
}
ORDER_SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "total": {"type": "number", "minimum": 0}},
    "required": ["id"],
}


def order_event(type_: str, id_: str, order: str, **data: Any) -> Json:
    """Word something that happened to an order."""
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "/order-service",
        "type": f"order.{type_}",
        "subject": order,
        "partitionkey": order,
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": JSON,
        "data": {"id": order, **data},
    }


CREATED = order_event("created", "order-42-created", "42", **ORDER)
BOTH = [
    order_event("paid", "order-42-paid", "42", total=39.8),
    order_event("created", "order-43-created", "43", item_id="scarf", quantity=1, total=25),
]


class OrderStory:
    """Plays with a broker that has nothing in it; `told` is what there is to tell of each call."""

    def __init__(self, running: BrokerProcess, endpoint: Endpoint) -> None:
        self.told: dict[str, Json] = {}
        self._http = running.api.http
        self._endpoint = endpoint
        self._instead = {endpoint.url: ENDPOINT}
        endpoint.script = self._receive

    def play(self) -> dict[str, Json]:
        """Make every call, and return what is told of it, by the name of the operation."""
        self._ask("healthz", "GET", "/healthz")
        self._ask("readyz", "GET", "/readyz")
        self._keys()
        self._subscribe()
        self._publish()
        self._look()
        self._fail()
        self._pull()
        self._later()
        self._end()
        self._original()
        return self.told

    def _keys(self) -> None:
        body = {"name": "order-service", "scopes": ["publish:order", "read:order*"]}
        key = self._tell("create_key", "POST", "/v1/keys", body)
        self._instead[key["id"]] = KEY_ID
        self.told["create_key"]["answer"][JSON]["id"] = KEY_ID
        self._ask("list_keys", "GET", "/v1/keys")
        self._ask("get_key", "GET", f"/v1/keys/{key['id']}")
        self._tell("put_key", "PUT", f"/v1/keys/{key['id']}", {"publish_rate": 100.0})
        self._ask("delete_key", "DELETE", f"/v1/keys/{key['id']}")

    def _subscribe(self) -> None:
        config = {
            "retention": {"max_age_s": 2592000, "max_bytes": 10737418240},
            "dedup_window_s": 172800,
            "schema": ORDER_SCHEMA,
        }
        self._tell("put_topic", "PUT", "/v1/topics/order", config)
        shipping = {
            "endpoint": ENDPOINT,
            "start": "beginning",
            "filters": [{"exact": {"type": "order.created"}}],
            "retry": {"max_attempts": 24, "min_backoff_s": 3600, "max_backoff_s": 3600},
            "timeout_s": 10,
            "headers": {"X-Shop": "berlin"},
        }
        self._tell("put_subscription", "PUT", SHIPPING, shipping)
        accepted(self._http.put(SHIPPING, json={"endpoint": self._endpoint.url}))
        accepted(self._http.put(PACKING, json={"start": "beginning"}))

    def _publish(self) -> None:
        path = "/v1/topics/order/messages"
        self._tell("publish", "POST", path, CREATED, STRUCTURED)
        self._give("publish", path, BOTH, BATCH)
        self._give("publish", path, ORDER | {"id": "44"}, JSON)
        self._give("publish", "/v1/topics/note/messages", "Order 42 is urgent.", "*/*")
        reminder = order_event("reminder", "reminder-1", "42") | {
            "source": "/topics/order",
            "deliverat": "2099-01-01T09:00:00Z",
        }
        accepted(
            self._http.post(
                path, content=json.dumps(reminder), headers={"content-type": STRUCTURED}
            )
        )

    def _look(self) -> None:
        self._ask("browse", "GET", "/v1/topics/order/messages", {"limit": 2})
        self._ask("get_message", "GET", "/v1/topics/order/messages/1")
        self._ask("list_scheduled", "GET", "/v1/topics/order/scheduled")
        self._ask("get_scheduled", "GET", "/v1/topics/order/scheduled/reminder-1")
        self._ask("cancel_scheduled", "DELETE", "/v1/topics/order/scheduled/reminder-1")
        with self._http.stream("GET", "/v1/topics/order/stream", params={"after": 0}) as stream:
            lines = stream.iter_lines()
            first = [next(lines)]
            while not any(line.startswith("data:") for line in first):
                first.append(next(lines))
            self._note("stream", stream, "\n".join(first) + "\n\n")

    def _fail(self) -> None:
        """Have the depot closed, and what comes of that."""
        self._retrying({1: 2, 3: 2})
        self._ask("list_topics", "GET", "/v1/topics")
        self._ask("get_topic", "GET", "/v1/topics/order")
        self._ask("list_subscriptions", "GET", "/v1/topics/order/subscriptions")
        self._ask("get_subscription", "GET", SHIPPING)
        self._ask("list_deliveries", "GET", f"{SHIPPING}/deliveries", {"state": "retrying"})
        self._ask("list_attempts", "GET", f"{SHIPPING}/messages/1/attempts")
        self._tell("retry", "POST", f"{SHIPPING}/deliveries/1/retry", {})
        self._retrying({1: 3, 3: 2})
        self._tell("dead_letter", "POST", f"{SHIPPING}/deliveries/1/dead-letter", {})
        letters = f"{SHIPPING}/dead-letters"
        eventually(lambda: self._http.get(letters).json()["dead_letters"])
        self._ask("list_dead_letters", "GET", letters)
        self._ask("get_dead_letter", "GET", f"{letters}/1")
        self._tell("pause", "POST", f"{SHIPPING}/pause", {})
        self._tell("resume", "POST", f"{SHIPPING}/resume", {})
        self._tell("replay", "POST", f"{letters}/replay", {"sequences": [1]})
        self._tell("rotate_secret", "POST", f"{SHIPPING}/rotate-secret", {"overlap_s": 86400})
        self._tell("seek", "POST", f"{SHIPPING}/seek", {"to": "beginning", "dry_run": True})

    def _pull(self) -> None:
        body = {"max_messages": 2, "wait_s": 5}
        pulled = self._tell("pull", "POST", f"{PACKING}/pull", body)
        one, other = (each["ack_id"] for each in pulled["deliveries"])
        kept = {"ack_ids": [one], "ack_deadline_s": 120}
        self._tell("extend", "POST", f"{PACKING}/extend", kept)
        self._tell("nack", "POST", f"{PACKING}/nack", {"ack_ids": [other], "delay_s": 30})
        self._tell("ack", "POST", f"{PACKING}/ack", {"ack_ids": [one]})

    def _later(self) -> None:
        path = "/v1/topics/order/subscriptions/label"
        before = len(self._endpoint.requests)
        config = {"endpoint": f"{self._endpoint.url}/label", "start": 1, "allow_later": True}
        accepted(self._http.put(path, json=config))
        leased = {"state": "in-flight"}
        eventually(
            lambda: any(
                each["sequence"] == 1 and each["ack_deadline_at"]
                for each in self._http.get(f"{path}/deliveries", params=leased).json()["deliveries"]
            )
        )
        (request,) = (
            each
            for each in self._endpoint.requests[before:]
            if each.path.endswith("/label") and each.sequence == 1
        )
        url = httpx.URL(request.headers["webhook-ack-url"])
        self._tell("conclude", "POST", url.path, {"verdict": "ack"})

    def _end(self) -> None:
        answer = self._http.get("/metrics")
        name = "broker_messages_published_total"
        self._note("metrics", answer, _lines_of(answer.text, name, topic="order"))
        self._ask("delete_subscription", "DELETE", PACKING)
        self._ask("delete_topic", "DELETE", "/v1/topics/order", {"force": "true"})

    def _original(self) -> None:
        reader = {"topic": "order", "subscriber": "packing"}
        self._tell("produce", "POST", "/produce", {"Topic": "order", "Body": ORDER})
        self._ask("subscribe", "POST", "/subscribe", reader)
        accepted(self._http.post("/produce", json={"Topic": "order", "Body": ORDER}))
        self._ask("consume", "GET", "/consume", reader)

    def _receive(self, request: Received) -> Answer:
        """Answer as the depot, which is closed, or as the label printer, which takes its time."""
        if request.path.endswith("/label"):
            return verdict("later")
        return Answer(503, body=b"The depot is closed.")

    def _retrying(self, attempts: Mapping[int, int]) -> None:
        """Wait until just these messages are to be tried again, for the so-manieth time."""

        def found() -> bool:
            answer = self._http.get(f"{SHIPPING}/deliveries", params={"state": "retrying"})
            deliveries = answer.json()["deliveries"]
            return {each["sequence"]: each["attempt"] for each in deliveries} == attempts

        eventually(found)

    def _ask(
        self,
        name: str,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a call without a body, and note what it is answered."""
        answer = self._http.request(method, path, params=query)
        assert answer.is_success, (name, answer.text)
        if answer.status_code != HTTPStatus.NO_CONTENT:
            self._note(name, answer, _read(answer))

    def _tell(
        self, name: str, method: str, path: str, body: Any, media_type: str = JSON
    ) -> dict[str, Any]:
        """Make a call with a body, note both, and return the answer."""
        answer = self._send(name, method, path, body, media_type)
        self._note(name, answer, _read(answer))
        found = _read(answer)
        return found if isinstance(found, dict) else {}

    def _give(self, name: str, path: str, body: Any, media_type: str) -> None:
        """Make a call with another body, and note that."""
        self._send(name, "POST", path, body, media_type)

    def _send(
        self, name: str, method: str, path: str, body: Any, media_type: str
    ) -> httpx.Response:
        text = media_type == "*/*"
        answer = self._http.request(
            method,
            path,
            content=body if text else json.dumps(body),
            headers={"content-type": "text/plain" if text else media_type},
        )
        assert answer.is_success, (name, answer.text)
        self.told.setdefault(name, {}).setdefault("body", {})[media_type] = body
        return answer

    def _note(self, name: str, answer: httpx.Response, content: Any) -> None:
        written = json.dumps(content)
        for ours, theirs in self._instead.items():
            written = written.replace(ours, theirs)
        told = self.told.setdefault(name, {})
        told["status"] = answer.status_code
        told["answer"] = {answer.headers["content-type"]: json.loads(written)}


def _read(answer: httpx.Response) -> Any:
    return answer.json() if "json" in answer.headers["content-type"] else answer.text


def _lines_of(text: str, name: str, topic: str) -> str:
    """Return what a page of metrics says of one of them, and of one topic."""
    lines = (line for line in text.splitlines() if name in line)
    found = [line for line in lines if line.startswith("#") or f'topic="{topic}"' in line]
    assert found, name
    return "".join(f"{line}\n" for line in found)


def alike(told: Any, found: Any, name: str = "") -> bool:
    """Say whether two plays differ in nothing but times, and in ids and secrets made at random."""
    if isinstance(told, dict) and isinstance(found, dict):
        return told.keys() == found.keys() and all(
            alike(each, found[inner], inner) for inner, each in told.items()
        )
    if isinstance(told, list) and isinstance(found, list):
        return len(told) == len(found) and all(
            alike(one, other, name) for one, other in zip(told, found, strict=True)
        )
    if name in OF_ONE_PLAY or (isinstance(told, str) and told.startswith(SECRETS)):
        return type(told) is type(found)
    return bool(told == found)


def _record() -> None:
    with (
        TemporaryDirectory() as folder,
        closing(BrokerProcess(Path(folder)).start()) as running,
        Endpoint() as endpoint,
    ):
        told = OrderStory(running, endpoint).play()
    EXAMPLES.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _record()
