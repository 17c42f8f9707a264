"""The broker's HTTP interface, one method a call, nothing hidden.

Whatever is sent and answered is as the broker itself describes it, or the call raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from support.cloudevent import BATCH, STRUCTURED, Json, to_headers
from support.described import describing

QUICK_RETRY = {"max_attempts": 8, "min_backoff_s": 0.05, "max_backoff_s": 0.2}
INSTANT_RETRY = {"max_attempts": 8, "min_backoff_s": 0.01, "max_backoff_s": 0.02}
SLOW_RETRY = {"max_attempts": 8, "min_backoff_s": 3600, "max_backoff_s": 3600}


class Api:
    """A client of one broker. Methods return the answer as it came; `ok_…` ones insist on 2xx."""

    def __init__(self, base_url: str, timeout_s: float = 15.0) -> None:
        self.base_url = base_url
        # An idle connection is given up before the broker closes it, which it does after 3 s.
        limits = httpx.Limits(keepalive_expiry=1.0)
        self.http = httpx.Client(
            base_url=base_url,
            timeout=timeout_s,
            trust_env=False,
            limits=limits,
            event_hooks={"response": [describing(base_url)]},
        )

    def close(self) -> None:
        """Close its connections."""
        self.http.close()

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- topics

    def put_topic(self, topic: str, **config: Any) -> httpx.Response:
        """Create or update a topic."""
        return self.http.put(f"/v1/topics/{topic}", json=config)

    def get_topic(self, topic: str) -> httpx.Response:
        """Show a topic."""
        return self.http.get(f"/v1/topics/{topic}")

    def delete_topic(self, topic: str, *, force: bool = False) -> httpx.Response:
        """Delete a topic; `force` with its subscriptions."""
        params = {"force": "true"} if force else {}
        return self.http.delete(f"/v1/topics/{topic}", params=params)

    def browse(self, topic: str, **params: Any) -> httpx.Response:
        """Read one page of a topic's messages."""
        return self.http.get(f"/v1/topics/{topic}/messages", params=params)

    def all_messages(self, topic: str, **params: Any) -> Iterator[Json]:
        """Read all pages of a topic's messages."""
        after: int | None = 0
        while after is not None:
            page = good(self.browse(topic, after=after, **params))
            yield from page["messages"]
            after = page["next"]

    def get_message(self, topic: str, sequence: int | str) -> httpx.Response:
        """Read one message."""
        return self.http.get(f"/v1/topics/{topic}/messages/{sequence}")

    # -- publish

    def post(
        self, topic: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Publish raw bytes with exactly these headers (and what HTTP needs)."""
        return self.http.post(f"/v1/topics/{topic}/messages", content=body, headers=headers)

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **attributes: str,
    ) -> httpx.Response:
        """Publish a JSON value in binary mode."""
        if key is not None:
            attributes["partitionkey"] = key
        return self.post(
            topic,
            json.dumps(data).encode(),
            {"content-type": "application/json", **to_headers(attributes), **(headers or {})},
        )

    def publish_event(
        self, topic: str, event: Any, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Publish one structured event."""
        return self.post(
            topic, json.dumps(event).encode(), {"content-type": STRUCTURED, **(headers or {})}
        )

    def publish_batch(
        self, topic: str, events: Iterable[Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Publish a batch of structured events."""
        body = json.dumps(list(events)).encode()
        return self.post(topic, body, {"content-type": BATCH, **(headers or {})})

    def ok_publish(self, topic: str, data: Any = None, **options: Any) -> int:
        """Publish a JSON value and give its sequence."""
        return int(good(self.publish(topic, data, **options))["sequence"])

    # -- subscriptions

    def put_subscription(self, topic: str, name: str, **fields: Any) -> httpx.Response:
        """Create or update a subscription."""
        return self.http.put(f"/v1/topics/{topic}/subscriptions/{name}", json=fields)

    def get_subscription(self, topic: str, name: str) -> httpx.Response:
        """Show a subscription."""
        return self.http.get(f"/v1/topics/{topic}/subscriptions/{name}")

    def list_subscriptions(self, topic: str) -> httpx.Response:
        """List a topic's subscriptions."""
        return self.http.get(f"/v1/topics/{topic}/subscriptions")

    def delete_subscription(self, topic: str, name: str) -> httpx.Response:
        """Delete a subscription."""
        return self.http.delete(f"/v1/topics/{topic}/subscriptions/{name}")

    def ok_subscribe(self, topic: str, endpoint: str, name: str = "s", **fields: Any) -> Json:
        """Create a subscription that retries quickly, and give the answer."""
        fields = {"endpoint": endpoint, "retry": QUICK_RETRY, **fields}
        return good(self.put_subscription(topic, name, **fields))

    def ok_status(self, topic: str, name: str = "s") -> Json:
        """Show a subscription that must be there."""
        return good(self.get_subscription(topic, name))

    def backlog(self, topic: str, name: str = "s") -> int:
        """Count what a subscription is owed."""
        return int(self.ok_status(topic, name)["backlog"])

    def settled_without_circuit(self, topic: str, name: str = "s") -> bool:
        """Say whether a subscription is owed nothing; raise RuntimeError if its circuit is open.

        An open circuit waits for a second at least, so that whoever looks often sees it.
        """
        shown = self.ok_status(topic, name)
        if shown["state"] == "circuit-open":
            raise RuntimeError("the circuit is open")
        return bool(shown["backlog"] == 0)

    def act(self, topic: str, action: str, name: str = "s", body: Any = None) -> httpx.Response:
        """Call one of a subscription's actions, `pause` or `dead-letters/replay` say."""
        path = f"/v1/topics/{topic}/subscriptions/{name}/{action}"
        return self.http.post(path) if body is None else self.http.post(path, json=body)

    def look(
        self, topic: str, what: str, name: str = "s", params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """Read what a subscription keeps, `deliveries` or `dead-letters/7` say."""
        return self.http.get(f"/v1/topics/{topic}/subscriptions/{name}/{what}", params=params)

    def pause(self, topic: str, name: str = "s") -> None:
        """Pause a subscription."""
        accepted(self.act(topic, "pause", name))

    def resume(self, topic: str, name: str = "s") -> None:
        """Resume a subscription."""
        accepted(self.act(topic, "resume", name))

    def seek(self, topic: str, to: Any, name: str = "s", **fields: Any) -> int:
        """Move a subscription and give the backlog it then has."""
        return int(good(self.act(topic, "seek", name, {"to": to, **fields}))["backlog"])

    def rotate_secret(self, topic: str, name: str = "s", **fields: Any) -> str:
        """Give a subscription a new secret, and give that."""
        return str(good(self.act(topic, "rotate-secret", name, fields))["secret"])

    def deliveries(self, topic: str, state: str | None = None, name: str = "s") -> list[Json]:
        """List what is not settled, all of it or what is in one state."""
        params = {} if state is None else {"state": state}
        return list(good(self.look(topic, "deliveries", name, params))["deliveries"])

    def attempts(self, topic: str, sequence: int, name: str = "s") -> list[Json]:
        """List the failed attempts of a delivery."""
        return list(good(self.look(topic, f"messages/{sequence}/attempts", name))["attempts"])

    def dead_letters(self, topic: str, name: str = "s", **params: Any) -> list[Json]:
        """List a subscription's dead letters, one page."""
        return list(good(self.look(topic, "dead-letters", name, params))["dead_letters"])

    def replay(self, topic: str, *sequences: int, name: str = "s") -> int:
        """Replay these dead letters, all where none is named, and count them."""
        body = {"sequences": sequences} if sequences else {"all": True}
        return int(good(self.act(topic, "dead-letters/replay", name, body))["replayed"])

    def drop_dead_letter(self, topic: str, sequence: int | str, name: str = "s") -> httpx.Response:
        """Delete a dead letter."""
        path = f"/v1/topics/{topic}/subscriptions/{name}/dead-letters/{sequence}"
        return self.http.delete(path)

    # -- scheduled messages

    def scheduled(self, topic: str, **params: Any) -> list[Json]:
        """List the messages that wait for their time, one page."""
        answer = self.http.get(f"/v1/topics/{topic}/scheduled", params=params)
        return list(good(answer)["messages"])

    def get_scheduled(self, topic: str, id: str, source: str) -> httpx.Response:
        """Show a message that waits for its time."""
        return self.http.get(_scheduled_path(topic, id), params={"source": source})

    def cancel_scheduled(self, topic: str, id: str, source: str) -> httpx.Response:
        """Delete a message that waits for its time."""
        return self.http.delete(_scheduled_path(topic, id), params={"source": source})


def _scheduled_path(topic: str, id: str) -> str:
    return f"/v1/topics/{topic}/scheduled/{quote(id, safe='')}"


def accepted(answer: httpx.Response) -> None:
    """Insist on a 2xx, whatever it says."""
    assert answer.is_success, f"{answer.status_code}: {answer.text[:500]}"


def good(answer: httpx.Response) -> Json:
    """Insist on a 2xx with a JSON object, and give it."""
    assert answer.is_success, f"{answer.status_code}: {answer.text[:500]}"
    body = answer.json()
    assert isinstance(body, dict), body
    return body
