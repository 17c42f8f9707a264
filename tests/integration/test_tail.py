"""`broker tail`: follows live, over restarts of the broker, until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

import pytest

from broker.cli.connection import Connection, Refusal
from broker.cli.following import Following
from broker.cli.sse import ServerSentEvent
from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.command import RunningCommand
from support.eventually import eventually


def begun(tail: RunningCommand, api: Api, topic: str) -> int:
    """Publish until it follows; give the first sequence that it has not shown."""

    def shown() -> bool:
        api.ok_publish(topic, "begun?")
        return bool(tail.lines)

    eventually(shown)
    last = int(good(api.get_topic(topic))["last_sequence"])
    eventually(lambda: f" {last} " in tail.lines[-1] or f'"sequence":{last},' in tail.lines[-1])
    return last + 1


def test_each_message_is_a_line_as_it_comes(broker: BrokerProcess, api: Api, topic: str) -> None:
    api.put_topic(topic)
    with RunningCommand("tail", topic, BROKER_URL=broker.base_url) as tail:
        sequence = begun(tail, api, topic)
        assert tail.lines[0].split() == ["TIME", "SEQUENCE", "TYPE", "KEY", "DATA"]
        api.ok_publish(topic, {"a": "é\n"}, key="k", type="sold")
        eventually(lambda: f" {sequence} " in tail.lines[-1])

        assert tail.lines[-1].split(None, 4)[1:] == [f"{sequence}", "sold", "k", r'{"a": "é\n"}']
        assert tail.interrupt() == 0

    assert tail.notes == []


def test_programs_get_lines_of_json(broker: BrokerProcess, api: Api, topic: str) -> None:
    api.put_topic(topic)
    with RunningCommand("tail", topic, "--json", BROKER_URL=broker.base_url) as tail:
        sequence = begun(tail, api, topic)
        body = b'{\r\n "a":\n [1.50]}'
        assert api.post(topic, body, {"content-type": "application/json"}).status_code == 201
        eventually(lambda: f'"sequence":{sequence},' in tail.lines[-1])

        assert json.loads(tail.lines[-1]) == good(api.get_message(topic, sequence))
        assert "[1.50]" in tail.lines[-1]
        assert tail.interrupt() == 0


def test_it_begins_and_ends_where_it_is_told(broker: BrokerProcess, api: Api, topic: str) -> None:
    for n in range(1, 7):
        api.ok_publish(topic, n, key="ab"[n % 2], type="red" if n < 6 else "blue")

    for options, wanted in (
        (("--after", "0", "--limit", "2"), [1, 2]),
        (("--last", "3", "--limit", "3"), [4, 5, 6]),
        (("--last", "100", "--limit", "1"), [1]),
        (("--after", "0", "--key", "a", "--limit", "3"), [2, 4, 6]),
        (("--after", "0", "--key", "a", "--type", "blue", "--limit", "1"), [6]),
    ):
        with RunningCommand("tail", topic, "--json", *options, BROKER_URL=broker.base_url) as tail:
            assert tail.wait() == 0
        assert [json.loads(line)["sequence"] for line in tail.lines] == wanted


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill])
def test_nothing_is_missed_over_a_restart(restartable: BrokerProcess, end: object) -> None:
    api, topic = restartable.api, "restarted"
    good(api.publish_batch(topic, [event(id=f"{n}") for n in range(700)]))
    with RunningCommand(
        "tail", topic, "--json", "--after", "0", BROKER_URL=restartable.base_url
    ) as tail:
        eventually(lambda: len(tail.lines) == 700)
        end(restartable)  # type: ignore[operator]
        eventually(lambda: tail.notes)
        restartable.start()
        good(restartable.api.publish_batch(topic, [event(id=f"more-{n}") for n in range(700)]))
        eventually(lambda: len(tail.lines) == 1400)
        eventually(lambda: len(tail.notes) == 2)

        assert [json.loads(line)["sequence"] for line in tail.lines] == list(range(1, 1401))
        assert "connecting again" in tail.notes[0]
        assert "going on behind 700" in tail.notes[1]
        end(restartable)  # type: ignore[operator]
        eventually(lambda: len(tail.notes) == 3)
        assert tail.interrupt() == 0, "also while it waits for the broker"


def test_deleted_topic_ends_it(broker: BrokerProcess, api: Api, topic: str) -> None:
    api.ok_publish(topic, 1)
    with RunningCommand("tail", topic, "--last", "1", BROKER_URL=broker.base_url) as tail:
        eventually(lambda: len(tail.lines) == 2)
        api.delete_topic(topic)

        assert tail.wait() == 1
    assert "There is no topic" in tail.notes[-1]


class Between:
    """Something that is done to the broker while a follower waits to connect again."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self.notes: list[str] = []
        self.then = self.nothing

    def nothing(self) -> None:
        pass

    def follow(self, topic: str) -> Iterator[ServerSentEvent]:
        connection = Connection(self._broker.base_url, None)
        following = Following(connection, topic, {}, self.notes.append, lambda _: self.then())
        for events in following.begin(0, 0):
            yield from events

    def restart(self) -> None:
        self._broker.start()
        self.then = self.nothing


def test_another_topic_of_that_name_is_followed_from_its_beginning(
    restartable: BrokerProcess,
) -> None:
    between = Between(restartable)
    restartable.api.ok_publish("reborn", "old")
    restartable.api.ok_publish("reborn", "old too")
    events = between.follow("reborn")
    assert [each.id for each in islice(events, 2)] == ["1", "2"]

    def reborn() -> None:
        between.restart()
        restartable.api.delete_topic("reborn")
        restartable.api.ok_publish("reborn", "new")

    between.then = reborn
    restartable.stop()

    assert json.loads(next(events).data)["data"] == "new"
    assert "new one" in between.notes[1]


def test_what_retention_has_removed_meanwhile_is_told(restartable: BrokerProcess) -> None:
    between = Between(restartable)
    restartable.api.ok_publish("trimmed", 1)
    events = between.follow("trimmed")
    next(events)

    def trimmed() -> None:
        between.restart()
        api = restartable.api
        api.put_topic("trimmed", retention={"max_messages": 1})
        for n in range(4):
            api.ok_publish("trimmed", n)
        eventually(lambda: good(api.get_topic("trimmed"))["first_sequence"] == 5)

    between.then = trimmed
    restartable.stop()

    assert next(events).id == "5"
    assert "removed 3 messages" in between.notes[1]


def test_refusal_ends_it_and_a_broker_that_starts_does_not(restartable: BrokerProcess) -> None:
    between = Between(restartable)
    restartable.api.ok_publish("gone", 1)
    events = between.follow("gone")
    next(events)
    tries = []

    def gone() -> None:
        tries.append(1)
        if len(tries) == 3:
            between.restart()
            restartable.api.delete_topic("gone")

    between.then = gone
    restartable.stop()

    with pytest.raises(Refusal, match="There is no topic"):
        next(events)
    assert len(tries) == 3
