"""Commands that are refused, asked about, or wrong; and what is shown where."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.command import Terminal, run_broker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
UNDOABLE = [
    ("topics", "delete", "{topic}"),
    ("subscriptions", "delete", "{topic}", "s"),
    ("seek", "{topic}", "s", "beginning"),
    ("replay", "{topic}", "s", "--all"),
    ("dead-letters", "delete", "{topic}", "s", "1"),
    ("scheduled", "cancel", "{topic}", "x"),
]


def refused(broker: BrokerProcess, *arguments: str | Path, stdin: str | bytes = "") -> str:
    """Run a command that is refused, and give what it says on the standard error."""
    done = run_broker(*arguments, stdin=stdin, BROKER_URL=broker.base_url)
    assert (done.returncode, done.stdout) == (1, ""), arguments
    assert "Traceback" not in done.stderr
    return done.stderr


def misused(*arguments: str | Path, stdin: str | bytes = "") -> str:
    """Run a command that is wrong by itself, with no broker that it could ask."""
    done = run_broker(*arguments, stdin=stdin, BROKER_URL="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, ""), arguments
    assert "Traceback" not in done.stderr
    return done.stderr


# -- refusals


def test_what_is_not_there_is_refused_with_the_brokers_words(
    broker: BrokerProcess, api: Api, topic: str
) -> None:
    good(api.put_subscription(topic, "s"))

    for arguments, told in (
        (("topics", "show", "no-such"), 'There is no topic "no-such"'),
        (("tail", "no-such"), 'There is no topic "no-such"'),
        (("messages", "show", topic, "7"), f'Topic "{topic}" has no message 7'),
        (("subscriptions", "pause", topic, "x"), f'Topic "{topic}" has no subscription "x"'),
        (("dead-letters", "show", topic, "s", "7"), "has no dead letter 7"),
        (("deliveries", "retry", topic, "s", "7"), "no blocked or retrying delivery 7"),
        (("scheduled", "cancel", topic, "x", "--yes"), "x"),
        (("keys", "show", "no-such"), 'There is no key with the id "no-such"'),
        (("keys", "delete", "no-such", "--yes"), 'There is no key with the id "no-such"'),
    ):
        said = refused(broker, *arguments)
        assert said.startswith("broker ")
        assert told in said


def test_every_fault_is_named(broker: BrokerProcess, topic: str) -> None:
    said = refused(
        broker,
        *("subscriptions", "create", topic, "s", "--ordering", "alphabet", "--timeout", "9999d"),
        *("--max-in-flight", "0", "--field", "colour=red", "--endpoint", "gopher://x"),
    )

    for field in ("ordering", "timeout_s", "max_in_flight", "colour", "endpoint"):
        assert f"{field}: " in said


def test_what_is_there_is_not_created_nor_what_is_not_there_updated(
    broker: BrokerProcess, api: Api, topic: str
) -> None:
    good(api.put_subscription(topic, "s", timeout_s=7))

    assert "is there already" in refused(broker, "topics", "create", topic)
    taken = ("subscriptions", "create", topic, "s", "--timeout", "8")
    assert "is there already" in refused(broker, *taken)
    assert "There is no topic" in refused(broker, "topics", "update", "no-such")
    assert "There is no subscription" in refused(broker, "subscriptions", "update", topic, "x")
    assert api.ok_status(topic)["timeout_s"] == 7
    assert api.get_subscription(topic, "x").status_code == 404


def test_topic_in_use_is_kept(broker: BrokerProcess, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "s"))

    assert "--force" in refused(broker, "topics", "delete", topic, "--yes")
    good(api.get_topic(topic))


def test_names_lead_to_nothing_else(broker: BrokerProcess, api: Api, topic: str) -> None:
    good(api.put_subscription(topic, "s"))

    for name in ("..", ".", "../s", "s/../s", "s?force=true", "%2e%2e"):
        refused(broker, "subscriptions", "delete", topic, name, "--yes")
    assert "at least one" in misused("subscriptions", "delete", topic, "", "--yes")
    good(api.get_subscription(topic, "s"))


def test_batch_is_refused_by_line_and_what_went_before_is_told(
    broker: BrokerProcess, api: Api, topic: str
) -> None:
    events = [json.dumps({"id": f"{n}"}) for n in range(1500)]
    wrong = [*events, "", '{"specversion": "2.0"}']

    said = refused(broker, "publish", topic, "--batch", "-", stdin="\n".join(wrong))

    assert "line 1502: specversion" in said
    assert "1,000 messages published before, up to line 1000" in said
    assert good(api.get_topic(topic))["message_count"] == 1000
    said = refused(broker, "publish", topic, "--batch", "-", stdin='{"id": "a"}\n[]\n')
    assert "Line 2 is not an event" in said
    assert "before" not in said


def test_used_id_is_refused(broker: BrokerProcess, topic: str) -> None:
    run_broker("publish", topic, "1", "--id", "x", BROKER_URL=broker.base_url)

    assert "different message" in refused(broker, "publish", topic, "2", "--id", "x")


def test_key_is_sent_where_the_broker_wants_one(start_broker: StartBroker) -> None:
    admin = "an-admin-key-of-this-test"
    broker = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY=admin)

    said = refused(broker, "topics", "list")
    assert "Authorization: Bearer" in said
    assert "BROKER_API_KEY" in said
    by_option = run_broker("topics", "list", "--api-key", admin, BROKER_URL=broker.base_url)
    by_setting = run_broker(
        "topics", "create", "t", BROKER_URL=broker.base_url, BROKER_API_KEY=admin
    )
    assert (by_option.returncode, by_setting.returncode) == (0, 0)
    with Terminal("tail", "t", "--last", "0", BROKER_URL=broker.base_url) as terminal:
        assert terminal.wait() == 1
        assert "BROKER_API_KEY" in terminal.shown


# -- a broker that is not there


def test_unreachable_broker_is_told_with_its_url() -> None:
    url = f"http://127.0.0.1:{free_port()}"

    for command in (["topics", "list"], ["publish", "t", "1"], ["tail", "t"]):
        done = run_broker(*command, BROKER_URL=url)
        assert (done.returncode, done.stdout) == (1, "")
        assert url in done.stderr
        assert "Connection refused" in done.stderr
        assert "BROKER_URL" in done.stderr
        assert done.stderr.count("\n") == 1


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Something that is not a broker."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "header"),
    [(200, ("Content-Type", "text/html")), (404, ("X", "y")), (302, ("Location", "https://e.x/"))],
)
def test_what_is_no_broker_is_told(status: int, header: tuple[str, str]) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header(*header)
        request.end_headers()
        request.wfile.write(b"<html>")

    with answering(answer) as url:
        done = run_broker("topics", "list", BROKER_URL=url)

    assert done.returncode == 1
    assert f"What answers at {url} is not a broker: {status}" in done.stderr
    assert status != 302 or "https://e.x/" in done.stderr


def test_broken_connection_is_told() -> None:
    with answering(lambda request: request.connection.shutdown(socket.SHUT_RDWR)) as url:
        done = run_broker("topics", "list", BROKER_URL=url)

    assert done.returncode == 1
    assert f"{url} did not answer: it closed the connection." in done.stderr


# -- wrong use


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "shwo", "t"),
        ("topics", "show"),
        ("topics", "create", "t", "--max-age", "soon"),
        ("topics", "create", "t", "--max-bytes", "1.5x"),
        ("topics", "create", "t", "--field", "x"),
        ("topics", "create", "t", "--file", "/no/such/file"),
        ("subscriptions", "create", "t", "s", "--header", "x"),
        ("subscriptions", "create", "t", "s", "--filter", "{"),
        ("publish", "t", '{"a": '),
        ("publish", "t", "@/no/such/file"),
        ("publish", "t", "1", "--batch", "-"),
        ("publish", "t", "1", "--attribute", "x"),
        ("publish", "t", "1", "--deliver-at", "+soon"),
        ("messages", "show", "t", "0"),
        ("messages", "list", "t", "--limit", "0"),
        ("deliveries", "list", "t", "s", "--state", "lost"),
        ("tail", "t", "--after", "1", "--last", "1"),
        ("keys", "create", "shop"),
        ("keys", "create", "shop", "admin", "--key-file", "/no/such/file"),
        ("replay", "t", "s"),
        ("replay", "t", "s", "1", "--all"),
        ("topics", "list", "--url", "ftp://x"),
        ("topics", "list", "--url", "http://user:secret@x"),
        ("topics", "list", "--api-key", "a\nb"),
        ("completion", "tcsh"),
        (),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...]) -> None:
    misused(*arguments, stdin="")


# -- asking


@pytest.mark.parametrize("arguments", UNDOABLE)
def test_what_cannot_be_undone_needs_a_yes_where_nobody_can_be_asked(
    arguments: tuple[str, ...],
) -> None:
    said = misused(*(each.format(topic="t") for each in arguments))

    assert "--yes" in said


@pytest.fixture
def full(api: Api, topic: str, endpoint: Endpoint) -> str:
    """A topic with everything in it that could be undone: a dead letter, one that waits."""
    endpoint.script = lambda _: Answer(422)
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)
    good(api.publish(topic, 1, id="x", source=f"/topics/{topic}", deliverat="2099-01-01T00:00:00Z"))
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)
    return topic


@pytest.mark.parametrize("arguments", UNDOABLE)
def test_what_cannot_be_undone_is_asked_about(
    broker: BrokerProcess, api: Api, full: str, arguments: tuple[str, ...]
) -> None:
    before = [good(api.get_topic(full)), api.dead_letters(full), api.scheduled(full)]
    command = [each.format(topic=full) for each in arguments]

    with Terminal(*command, BROKER_URL=broker.base_url) as terminal:
        terminal.type("n", after="[y/N]")
        assert terminal.wait() == 1

    assert "Nothing was changed." in terminal.shown
    assert [good(api.get_topic(full)), api.dead_letters(full), api.scheduled(full)] == before


def test_yes_goes_on_and_the_question_says_what_follows(
    broker: BrokerProcess, api: Api, full: str
) -> None:
    with Terminal("seek", full, "s", "beginning", BROKER_URL=broker.base_url) as terminal:
        terminal.type("y", after="backlog of 0 messages. Moved to beginning, it has one of 1.")
        assert terminal.wait() == 0
    with Terminal("topics", "delete", full, "--force", BROKER_URL=broker.base_url) as terminal:
        terminal.type("y", after=f"Topic {full} goes, with 2 messages and the subscriptions s.")
        assert terminal.wait() == 0

    assert "is deleted" in terminal.shown
    assert api.get_topic(full).status_code == 404


# -- how it looks


def test_terminal_has_colour_and_others_have_none(
    broker: BrokerProcess, api: Api, topic: str
) -> None:
    api.ok_publish(topic, 1)
    url = broker.base_url

    with Terminal("messages", "list", topic, BROKER_URL=url) as terminal:
        assert terminal.wait() == 0
    with Terminal("messages", "list", topic, BROKER_URL=url, NO_COLOR="1") as plain:
        assert plain.wait() == 0
    piped = run_broker("messages", "list", topic, BROKER_URL=url).stdout

    assert "\x1b[36m" in terminal.shown
    assert "\x1b[36m" not in plain.shown
    assert "\x1b" not in piped
    assert [line.split() for line in ESCAPE.sub("", terminal.shown).splitlines()] == [
        line.split() for line in piped.splitlines()
    ]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_narrow_terminal_has_fewer_columns_and_whole_lines(
    broker: BrokerProcess, api: Api, topic: str, columns: int
) -> None:
    api.ok_publish(topic, {"text": "long " * 50}, key="a-key", type="a.rather.long.type")

    with Terminal(
        "messages", "list", topic, columns=columns, BROKER_URL=broker.base_url
    ) as terminal:
        assert terminal.wait() == 0

    header, row = ESCAPE.sub("", terminal.shown).splitlines()
    assert max(len(header), len(row)) <= columns
    assert {"SEQUENCE", "DATA"} <= set(header.split())
    assert ("TIME" in header) == (columns >= 80)
    assert "…" in row
    piped = run_broker("messages", "list", topic, BROKER_URL=broker.base_url)
    assert len(piped.stdout.splitlines()[1]) > 200, "whole where nobody looks"


def test_progress_is_shown_on_terminals_only(
    broker: BrokerProcess, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "events"
    file.write_text('{"data": 1}\n' * 3)
    command = ("publish", topic, "--batch", file)

    with Terminal(*command, BROKER_URL=broker.base_url) as terminal:
        assert terminal.wait() == 0

    assert "━━━" in terminal.shown
    assert run_broker(*command, BROKER_URL=broker.base_url).stderr == ""
