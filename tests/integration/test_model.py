"""Stateful tests: a small model of a topic and of a subscription beside the real broker."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.problem import read_problem

_serial = itertools.count()

ids = st.sampled_from("abcdef")
data = st.integers(0, 2)
keys = st.none() | st.sampled_from(["k1", "k2"])

DEFAULTS: dict[str, Any] = {
    "ordering": "key",
    "format": "binary",
    "max_batch": 100,
    "max_in_flight": 64,
    "timeout_s": 15,
    "retry": {"max_attempts": 20, "min_backoff_s": 1, "max_backoff_s": 600},
}
allowed = st.fixed_dictionaries(
    {},
    optional={
        "ordering": st.none() | st.sampled_from(["key", "topic", "none"]),
        "format": st.none() | st.sampled_from(["binary", "structured", "batch"]),
        "max_batch": st.none() | st.integers(1, 1000),
        "max_in_flight": st.none() | st.integers(1, 500),
        "timeout_s": st.none() | st.integers(1, 30),
        "retry": st.none()
        | st.fixed_dictionaries(
            {
                "max_attempts": st.integers(0, 100),
                "min_backoff_s": st.integers(1, 10),
                "max_backoff_s": st.integers(10, 1000),
            }
        ),
    },
)
wrong = st.sampled_from(
    [{"ordering": "x"}, {"format": 1}, {"max_batch": 0}, {"timeout_s": -1}, {"unheard_of": 1}]
)


class TopicMachine(RuleBasedStateMachine):
    """Publishing one by one and in batches, with few ids so that they meet again."""

    api: Api

    @initialize()
    def begin(self) -> None:
        self.topic = f"topic-machine-{next(_serial)}"
        self.log: list[dict[str, Any]] = []
        good(self.api.put_topic(self.topic))

    def teardown(self) -> None:
        self.api.delete_topic(self.topic, force=True)

    def known(self, given: dict[str, Any]) -> dict[str, Any] | None:
        return next((message for message in self.log if message["id"] == given["id"]), None)

    @staticmethod
    def same(message: dict[str, Any], given: dict[str, Any]) -> bool:
        return {name: message[name] for name in given} == given

    @rule(id=ids, data=data, key=keys)
    def publish(self, id: str, data: int, key: str | None) -> None:
        given = event(id=id, data=data, partitionkey=key)
        known = self.known(given)

        answer = self.api.publish_event(self.topic, given)

        if known is None:
            self.log.append({**given, "sequence": good(answer)["sequence"]})
            assert answer.json()["duplicate"] is False
        elif self.same(known, given):
            assert good(answer)["sequence"] == known["sequence"]
            assert answer.json()["duplicate"] is True
        else:
            assert read_problem(answer, 409).code == "id_reused"

    @rule(members=st.lists(st.tuples(ids, data, keys), min_size=1, max_size=5))
    def publish_batch(self, members: list[tuple[str, int, str | None]]) -> None:
        events = [event(id=id, data=value, partitionkey=key) for id, value, key in members]

        answer = self.api.publish_batch(self.topic, events)

        if self.clash(events):
            assert read_problem(answer, 409).code == "id_reused"
            return
        for given, told in zip(events, good(answer)["messages"], strict=True):
            known = self.known(given)
            assert told["duplicate"] is (known is not None)
            if known is None:
                self.log.append({**given, "sequence": told["sequence"]})
            else:
                assert told["sequence"] == known["sequence"]

    def clash(self, events: list[dict[str, Any]]) -> bool:
        """Say whether an id of a batch is known, or twice in it, with different data."""
        seen: dict[str, dict[str, Any]] = {}
        for given in events:
            first = self.known(given) or seen.setdefault(given["id"], given)
            if not self.same(first, given):
                return True
        return False

    @rule(given=wrong)
    def publish_nonsense(self, given: dict[str, Any]) -> None:
        answer = self.api.publish_event(self.topic, {**event(id="a"), "specversion": str(given)})
        read_problem(answer, 422)

    @rule(key=st.sampled_from(["k1", "k2"]), limit=st.integers(1, 4))
    def browse_by_key(self, key: str, limit: int) -> None:
        found = self.api.all_messages(self.topic, key=key, limit=limit)
        wanted = [each["sequence"] for each in self.log if each["partitionkey"] == key]
        assert [message["sequence"] for message in found] == wanted

    @invariant()
    def log_is_as_published(self) -> None:
        stored = list(self.api.all_messages(self.topic, limit=3))
        assert [
            (each["sequence"], each["id"], each["data"], each.get("partitionkey"))
            for each in stored
        ] == [(m["sequence"], m["id"], m["data"], m["partitionkey"]) for m in self.log]
        sequences = [each["sequence"] for each in stored]
        assert sequences == sorted(set(sequences))


class SubscriptionMachine(RuleBasedStateMachine):
    """PUTs of any part of a subscription, nulls, refusals, deletion."""

    api: Api

    @initialize()
    def begin(self) -> None:
        self.topic = f"subscription-machine-{next(_serial)}"
        self.fields: dict[str, Any] | None = None
        good(self.api.put_topic(self.topic))

    def teardown(self) -> None:
        self.api.delete_topic(self.topic, force=True)

    @rule(given=allowed)
    def put(self, given: dict[str, Any]) -> None:
        answer = self.api.put_subscription(self.topic, "s", **given)

        assert answer.status_code == (201 if self.fields is None else 200), answer.text
        before = DEFAULTS if self.fields is None else self.fields
        put = {n: DEFAULTS[n] if value is None else value for n, value in given.items()}
        self.fields = {**before, **put}

    @rule(given=allowed, fault=wrong)
    def put_wrong(self, given: dict[str, Any], fault: dict[str, Any]) -> None:
        answer = self.api.put_subscription(self.topic, "s", **{**given, **fault})

        assert all(read_problem(answer, 422).names(field) for field in fault)

    @precondition(lambda self: self.fields is not None)
    @rule()
    def delete(self) -> None:
        assert self.api.delete_subscription(self.topic, "s").status_code == 204
        self.fields = None

    @invariant()
    def subscription_is_as_put(self) -> None:
        answer = self.api.get_subscription(self.topic, "s")
        if self.fields is None:
            assert read_problem(answer, 404).code == "subscription_not_found"
        else:
            shown = good(answer)
            assert {name: shown[name] for name in self.fields} == self.fields


@pytest.mark.parametrize("machine", [TopicMachine, SubscriptionMachine])
def test_broker_follows_the_model(
    broker: BrokerProcess, machine: type[TopicMachine | SubscriptionMachine]
) -> None:
    machine.api = broker.api
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=15, deadline=None)
    )
