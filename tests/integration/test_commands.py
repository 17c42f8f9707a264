"""The commands that speak to a running broker: each for people, and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.command import run_broker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually

LATER = "2099-01-01T00:00:00Z"

Run = Callable[..., str]


@pytest.fixture
def run(broker: BrokerProcess) -> Run:
    """Run a command that is done, and give what it printed."""

    def run_command(*arguments: str | Path, stdin: str | bytes = "") -> str:
        done = run_broker(*arguments, stdin=stdin, BROKER_URL=broker.base_url)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        return done.stdout

    return run_command


def table(text: str) -> list[list[str]]:
    """Read a table: its rows, by the columns that its header names. No cell may be empty."""
    header, *rows = text.splitlines()
    assert header == header.upper()
    return [row.split() for row in rows]


def fields(text: str) -> dict[str, str]:
    """Read names and values, one below the other."""
    lines = (line.split(None, 1) for line in text.partition("\n\n")[0].splitlines())
    return {name: value for name, value in lines}  # noqa: C416 a line without a value fails


def lines(text: str) -> list[Any]:
    """Read lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]


# -- topics


def test_topics_are_listed(run: Run, api: Api, topic: str) -> None:
    api.ok_publish(topic, 1)
    good(api.put_subscription(topic, "s"))

    (row,) = (row for row in table(run("topics", "list")) if row[0] == topic)

    assert row == [topic, "1", row[2], "B", "1", "1", "s"]
    document = json.loads(run("topics", "list", "--json"))
    assert good(api.get_topic(topic)) in document["topics"]


def test_topic_is_created_shown_updated_and_deleted(
    run: Run, api: Api, topic: str, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')

    said = run(
        *("topics", "create", topic, "--max-age", "3d", "--max-bytes", "10MiB"),
        *("--dedup-window", "1.5h", "--schema", schema),
    )

    assert said == f"Topic {topic} is created.\n"
    made = good(api.get_topic(topic))
    assert made["retention"] == {
        "max_age_s": 259200,
        "max_bytes": 10485760,
        "max_messages": None,
    }
    assert (made["dedup_window_s"], made["schema"]) == (5400, {"type": "object"})
    shown = fields(run("topics", "show", topic))
    assert shown["retention.max_age_s"] == "3 d"
    assert shown["schema"] == '{"type": "object"}'
    assert json.loads(run("topics", "show", topic, "--json")) == made

    run("topics", "update", topic, "--max-bytes", "none", "--field", "schema=null")
    updated = json.loads(run("topics", "update", topic, "--max-messages", "5", "--json"))
    assert updated["retention"] == {"max_age_s": 259200, "max_bytes": None, "max_messages": 5}
    assert updated["schema"] is None

    assert run("topics", "delete", topic, "--yes") == f"Topic {topic} is deleted.\n"
    assert api.get_topic(topic).status_code == 404


def test_topic_is_made_of_a_file_and_options(run: Run, api: Api, topic: str) -> None:
    file = json.dumps({"dedup_window_s": 60, "retention": {"max_age_s": 60}})

    run("topics", "create", topic, "--file", "-", "--dedup-window", "120", stdin=file)

    made = good(api.get_topic(topic))
    assert (made["dedup_window_s"], made["retention"]["max_age_s"]) == (120, 60)


def test_topic_with_subscriptions_is_deleted_by_force(run: Run, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "s"))

    assert run("topics", "delete", topic, "--force", "--yes", "--json") == ""

    assert api.get_topic(topic).status_code == 404


# -- subscriptions


def test_subscription_is_created_with_every_option(
    run: Run, api: Api, topic: str, endpoint: Endpoint
) -> None:
    said = run(
        *("subscriptions", "create", topic, "s", "--endpoint", endpoint.url, "--start", "1"),
        *("--guarantee", "at-least-once", "--ordering", "none", "--format", "batch"),
        *("--max-batch", "10", "--max-in-flight", "3", "--rate-limit", "2.5", "--timeout", "1m"),
        *("--max-attempts", "3", "--min-backoff", "500ms", "--max-backoff", "2h"),
        *("--when-exhausted", "block", "--ack-deadline", "10", "--max-backlog-age", "none"),
        *("--dead-letter-retention", "1w", "--allow-later", "--header", "X-Shop: a:b"),
        *("--consent", "if-supported"),
        *("--filter", '{"prefix": {"type": "order."}}', "--sql", "amount > 1"),
    )

    made = good(api.get_subscription(topic, "s"))
    assert said.startswith(
        f"Subscription {topic}/s is created.\nIts secret, shown this once: whsec_"
    )
    assert {name: made[name] for name in made if name in _EVERY} == {
        **_EVERY,
        "endpoint": endpoint.url,
    }


_EVERY = {
    "endpoint": "",
    "guarantee": "at-least-once",
    "ordering": "none",
    "format": "batch",
    "max_batch": 10,
    "max_in_flight": 3,
    "rate_limit": 2.5,
    "timeout_s": 60,
    "retry": {"max_attempts": 3, "min_backoff_s": 0.5, "max_backoff_s": 7200},
    "when_exhausted": "block",
    "ack_deadline_s": 10,
    "max_backlog_age_s": None,
    "dead_letter_retention_s": 604800,
    "allow_later": True,
    "consent": "if-supported",
    "headers": {"X-Shop": "***"},
    "filters": [{"prefix": {"type": "order."}}, {"sql": "amount > 1"}],
}


def test_subscription_is_shown_updated_and_deleted(run: Run, api: Api, topic: str) -> None:
    made = json.loads(run("subscriptions", "create", topic, "s", "--json"))
    assert made["secret"].startswith("whsec_")

    shown = fields(run("subscriptions", "show", topic, "s"))
    assert (shown["name"], shown["state"], shown["backlog"]) == ("s", "active", "0")
    assert (shown["timeout_s"], shown["endpoint"]) == ("15 s", "-")
    assert json.loads(run("subscriptions", "show", topic, "s", "--json")) == api.ok_status(topic)

    said = run("subscriptions", "update", topic, "s", "--max-attempts", "2", "--forbid-later")
    assert said == f"Subscription {topic}/s is updated.\n"
    assert api.ok_status(topic)["retry"]["max_attempts"] == 2
    run("subscriptions", "create", topic, "s", "--or-update", "--max-attempts", "none")
    assert api.ok_status(topic)["retry"]["max_attempts"] == 20

    assert run("subscriptions", "delete", topic, "s", "--yes").endswith("is deleted.\n")
    assert api.get_subscription(topic, "s").status_code == 404


def test_subscriptions_are_listed_with_their_state(run: Run, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "pulled"))
    good(api.put_subscription(topic, "second"))
    api.pause(topic, "second")
    api.ok_publish(topic, 1)

    first, second = table(run("subscriptions", "list", topic))

    assert (first[:3], second[:3]) == (["pulled", "active", "1"], ["second", "paused", "1"])
    assert [topic, "pulled"] in [row[:2] for row in table(run("subscriptions", "list"))]
    document = json.loads(run("subscriptions", "list", topic, "--json"))
    assert [each["name"] for each in document["subscriptions"]] == ["pulled", "second"]
    everywhere = lines(run("subscriptions", "list", "--json"))
    assert {"pulled", "second"} <= {each["name"] for each in everywhere if each["topic"] == topic}


def test_subscription_is_paused_resumed_and_given_a_new_secret(
    run: Run, api: Api, topic: str
) -> None:
    good(api.put_subscription(topic, "s"))

    assert run("subscriptions", "pause", topic, "s") == f"Subscription {topic}/s is paused.\n"
    assert api.ok_status(topic)["state"] == "paused"
    assert json.loads(run("subscriptions", "resume", topic, "s", "--json"))["state"] == "active"

    done = json.loads(
        run("subscriptions", "rotate-secret", topic, "s", "--overlap", "1h", "--json")
    )
    assert done["secret"].startswith("whsec_")


def test_new_secret_is_all_that_is_printed(broker: BrokerProcess, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "s"))

    done = run_broker("subscriptions", "rotate-secret", topic, "s", BROKER_URL=broker.base_url)

    assert done.returncode == 0
    assert done.stdout.startswith("whsec_")
    assert done.stdout.count("\n") == 1
    assert "once" in done.stderr


# -- publish


def test_message_is_published_with_every_attribute(run: Run, api: Api, topic: str) -> None:
    said = run(
        *("publish", topic, '{"a": 1.50}', "--id", "m-1", "--type", "sold", "--source", "/shop"),
        *("--subject", 'a "hat" for 5 %', "--key", "clé 😀", "--expires", LATER),
        *("--attribute", "region=eu=west"),
    )

    assert said == f"Message 1 of {topic} is stored.\n"
    stored = good(api.get_message(topic, 1))
    assert stored.pop("time")
    assert stored == {
        "specversion": "1.0",
        "id": "m-1",
        "source": "/shop",
        "type": "sold",
        "subject": 'a "hat" for 5 %',
        "partitionkey": "clé 😀",
        "expirytime": LATER,
        "region": "eu=west",
        "datacontenttype": "application/json",
        "data": {"a": 1.5},
        "sequence": 1,
    }
    assert '{"a": 1.50}' in run("messages", "list", topic, "--json"), "kept byte for byte"


def test_repeat_is_told(run: Run, topic: str) -> None:
    run("publish", topic, "1", "--id", "x")

    assert (
        run("publish", topic, "1", "--id", "x")
        == f"It was there already, as message 1 of {topic}.\n"
    )
    again = json.loads(run("publish", topic, "1", "--id", "x", "--json"))
    assert again == {"id": "x", "sequence": 1, "duplicate": True}


@pytest.mark.parametrize(
    ("content", "type_", "member", "kept"),
    [
        (b'{"a": [1]}', "application/json", "data", {"a": [1]}),
        ("süß".encode(), "text/plain; charset=utf-8", "data", "süß"),
        (b"\xff\x00", "application/octet-stream", "data_base64", "/wA="),
    ],
)
def test_type_of_data_is_worked_out(
    run: Run,
    api: Api,
    topic: str,
    tmp_path: Path,
    content: bytes,
    type_: str,
    member: str,
    kept: Any,
) -> None:
    file = tmp_path / "data"
    file.write_bytes(content)

    run("publish", topic, f"@{file}")
    run("publish", topic, "-", stdin=content)

    for sequence in (1, 2):
        stored = good(api.get_message(topic, sequence))
        assert (stored["datacontenttype"], stored[member]) == (type_, kept)


def test_type_of_data_can_be_told_and_data_left_out(run: Run, api: Api, topic: str) -> None:
    run("publish", topic, "{no JSON", "--content-type", "text/x-note")
    run("publish", topic)

    assert good(api.get_message(topic, 1))["datacontenttype"] == "text/x-note"
    assert "data" not in good(api.get_message(topic, 2))


def test_batch_is_published_whole_and_repeats_are_told(
    run: Run, api: Api, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "events"
    events = [{"id": f"{n}", "partitionkey": "k", "data": {"n": n}} for n in range(1200)]
    file.write_text("\n".join(map(json.dumps, events)) + "\n\n")

    publish = ("publish", topic, "--type", "counted", "--batch")

    said = run(*publish, file)

    assert said == f"1,200 messages published to {topic}.\n"
    stored = list(api.all_messages(topic, limit=1000))
    assert [each["data"]["n"] for each in stored] == list(range(1200))
    assert stored[0]["source"] == f"/topics/{topic}"
    assert stored[0]["type"] == "counted"
    assert stored[0]["time"]
    again = lines(run(*publish, "-", "--json", stdin=file.read_bytes()))
    assert again == [{"id": f"{n}", "sequence": n + 1, "duplicate": True} for n in range(1200)]
    assert "1,200 were there already" in run(*publish, file)


def test_messages_that_were_listed_can_be_published_elsewhere(
    run: Run, api: Api, topic: str
) -> None:
    api.ok_publish(topic, {"a": 1}, key="k")
    api.ok_publish(topic, 2)
    listed = run("messages", "list", topic, "--json")

    other = f"{topic}-copy"
    try:
        run("publish", other, "--batch", "-", stdin=listed)
        assert lines(run("messages", "list", other, "--json")) == lines(listed)
    finally:
        api.delete_topic(other)


# -- messages


def test_messages_are_listed_by_page_key_and_type(
    broker: BrokerProcess, run: Run, api: Api, topic: str
) -> None:
    for n in range(5):
        api.ok_publish(topic, {"n": n}, key="ab"[n % 2], type="red" if n else "blue")

    first = table(run("messages", "list", topic))[0]

    assert first[1:] == ["1", "blue", "a", '{"n":', "0}"]
    page = run_broker(
        *("messages", "list", topic, "--after", "1", "--limit", "2"), BROKER_URL=broker.base_url
    )
    assert [row[1] for row in table(page.stdout)] == ["2", "3"]
    assert "--after 3" in page.stderr
    keyed = lines(run("messages", "list", topic, "--key", "a", "--type", "red", "--json"))
    assert keyed == [good(api.get_message(topic, sequence)) for sequence in (3, 5)]


def test_all_messages_are_listed(run: Run, api: Api, topic: str) -> None:
    good(api.publish_batch(topic, [event(id=f"{n}") for n in range(1000)]))
    good(api.publish_batch(topic, [event(id=f"{n}") for n in range(1000, 1100)]))

    assert len(lines(run("messages", "list", topic, "--json", "--limit", "700"))) == 700
    listed = lines(run("messages", "list", topic, "--all", "--json"))

    assert [each["sequence"] for each in listed] == list(range(1, 1101))


def test_message_is_shown(run: Run, api: Api, topic: str) -> None:
    api.ok_publish(topic, {"a": [1, "é"]}, key="k")

    shown = run("messages", "show", topic, "1")

    assert fields(shown)["partitionkey"] == "k"
    assert json.loads(shown.partition("\n\n")[2]) == {"a": [1, "é"]}
    assert json.loads(run("messages", "show", topic, "1", "--json")) == good(
        api.get_message(topic, 1)
    )


def test_nothing_that_a_message_holds_commands_the_terminal(run: Run, api: Api, topic: str) -> None:
    evil = "\x1b[2J\x9b2J[bold red]\u202e\r\n:smile:"
    api.post(topic, evil.encode(), {"content-type": "text/plain", "ce-partitionkey": "[red]"})

    for printed in (run("messages", "list", topic), run("messages", "show", topic, "1")):
        assert r"\x1b[2J\x9b2J[bold red]\u202e\r" in printed
        assert ":smile:" in printed
        assert "[red]" in printed
        assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(printed)


# -- scheduled


def test_messages_that_wait_are_listed_shown_and_cancelled(run: Run, api: Api, topic: str) -> None:
    run("publish", topic, "1", "--deliver-at", "+1h", "--id", "a/..")
    said = run("publish", topic, "2", "--deliver-at", LATER, "--id", "b", "--source", "/shop")
    assert said == f"Message b of {topic} waits for its time.\n"

    rows = table(run("scheduled", "list", topic))

    assert [row[1:3] for row in rows] == [["a/..", f"/topics/{topic}"], ["b", "/shop"]]
    assert [each["id"] for each in lines(run("scheduled", "list", topic, "--json"))] == [
        "a/..",
        "b",
    ]
    assert fields(run("scheduled", "show", topic, "a/.."))["sequence"] == "-"
    shown = run("scheduled", "show", topic, "b", "--source", "/shop", "--json")
    assert json.loads(shown)["deliverat"] == LATER

    run("scheduled", "cancel", topic, "a/..", "--yes")
    assert [each["id"] for each in api.scheduled(topic)] == ["b"]
    assert run("scheduled", "cancel", topic, "b", "--source", "/shop", "--yes", "--json") == ""
    assert api.scheduled(topic) == []


# -- what went wrong


@pytest.fixture
def troubled(api: Api, topic: str, endpoint: Endpoint) -> str:
    """A topic whose subscription `s` has one message dead, one retrying, one waiting behind it."""
    endpoint.script = lambda request: Answer(422 if request.key == "dead" else 500, body=b"no!")
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    for key in ("dead", "failing", "failing"):
        api.ok_publish(topic, {"key": key}, key=key)
    eventually(
        lambda: (
            (api.ok_status(topic)["dead_letters"], api.ok_status(topic)["retrying"]) == (1, 1)
            and api.deliveries(topic, "waiting")
        )
    )
    return topic


def test_deliveries_are_listed_by_state(run: Run, api: Api, troubled: str) -> None:
    rows = table(run("deliveries", "list", troubled, "s"))

    assert [row[:3] for row in rows] == [["2", "retrying", "2"], ["3", "waiting", "1"]]
    retrying = lines(run("deliveries", "list", troubled, "s", "--state", "retrying", "--json"))
    assert retrying == api.deliveries(troubled, "retrying")
    (row,) = table(run("deliveries", "attempts", troubled, "s", "2"))
    assert row[2] == "500"
    assert row[-1] == "no!"
    attempts = json.loads(run("deliveries", "attempts", troubled, "s", "2", "--json"))
    assert attempts == {"attempts": api.attempts(troubled, 2)}


def test_delivery_is_retried_and_given_up(
    run: Run, api: Api, troubled: str, endpoint: Endpoint
) -> None:
    before = len(endpoint.requests)
    said = run("deliveries", "retry", troubled, "s", "2")
    assert said == f"Delivery 2 of {troubled}/s is tried again.\n"
    eventually(lambda: len(endpoint.requests) > before)
    eventually(lambda: api.deliveries(troubled, "retrying"))

    done = json.loads(run("deliveries", "dead-letter", troubled, "s", "2", "--json"))

    assert done == {"sequence": 2, "state": "dead"}
    eventually(lambda: api.ok_status(troubled)["dead_letters"] == 2)


def test_dead_letters_are_listed_shown_and_deleted(run: Run, api: Api, troubled: str) -> None:
    (row,) = table(run("dead-letters", "list", troubled, "s"))
    assert row[1:3] == ["1", "dead"]

    assert lines(run("dead-letters", "list", troubled, "s", "--json")) == api.dead_letters(troubled)
    shown = run("dead-letters", "show", troubled, "s", "1")
    assert "422" in shown
    assert shown.endswith('{\n  "key": "dead"\n}\n')
    document = json.loads(run("dead-letters", "show", troubled, "s", "1", "--json"))
    assert document["failed_attempts"][0]["status"] == 422

    run("dead-letters", "delete", troubled, "s", "1", "--yes")
    assert api.dead_letters(troubled) == []


@pytest.mark.parametrize("command", [("replay",), ("dead-letters", "replay")])
def test_dead_letters_are_replayed(
    run: Run, troubled: str, endpoint: Endpoint, command: tuple[str, ...]
) -> None:
    endpoint.script = lambda request: Answer(422 if request.attempt == 1 else 200)

    said = run(*command, troubled, "s", "1")
    assert said == f"Replayed: 1 dead letter of {troubled}/s.\n"
    eventually(lambda: endpoint.sequences.count(1) == 2)
    eventually(
        lambda: json.loads(run(*command, troubled, "s", "--all", "--yes", "--json"))["replayed"]
    )


def test_subscription_is_moved(run: Run, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "s"))
    for n in range(3):
        api.ok_publish(topic, n)

    dry = run("seek", topic, "s", "now", "--dry-run")
    assert dry == f"{topic}/s would have a backlog of 0 messages.\n"
    assert api.backlog(topic) == 3
    said = run("seek", topic, "s", "3", "--yes")
    assert said == f"{topic}/s now has a backlog of 1 message.\n"
    moved = json.loads(run("seek", topic, "s", "2000-01-01T00:00:00Z", "--yes", "--json"))
    assert moved == {"backlog": 3}
    assert api.backlog(topic) == 3


# -- where the broker is


def test_broker_is_named_by_option_or_setting_before_or_behind(
    broker: BrokerProcess, api: Api, topic: str
) -> None:
    api.put_topic(topic)
    nowhere = "http://127.0.0.1:1"
    for arguments in (
        ("--url", broker.base_url, "--json", "topics", "show", topic),
        ("topics", "show", topic, "--json", "--url", f"127.0.0.1:{broker.port}"),
        ("--url", nowhere, "topics", "--help"),
    ):
        done = run_broker(*arguments, BROKER_URL=nowhere)
        assert (done.returncode, done.stderr) == (0, "")
    assert run_broker("topics", "list", BROKER_URL=broker.base_url + "/").returncode == 0
