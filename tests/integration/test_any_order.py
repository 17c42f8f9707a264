"""Whatever is done to a subscription, no message is lost and no key reordered.

Publishing with endpoints that take, fail or refuse a message, pauses, blocked deliveries, dead
letters, replays, seeks and kill -9, in any order; then everything is healed, and the endpoint's
own record must show every message settled, each key in order.

Walks of fixed seeds rather than a state machine of Hypothesis: few examples are affordable with a
broker, so that each must be rich and fail again when it has failed. More seeds find more.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from support.api import Api, accepted
from support.broker_process import BrokerProcess
from support.cloudevent import Json
from support.endpoint import Answer, Endpoint, Received
from support.eventually import eventually

Mode = Literal["takes", "fails", "refuses"]

_serial = itertools.count()
STEPS = 40
RETRY = {"max_attempts": 2, "min_backoff_s": 0, "max_backoff_s": 0.01}


@dataclass
class Epoch:
    """What began with a seek: its first request, and the first sequence it delivers anew."""

    from_request: int
    from_sequence: int


@dataclass
class Patients:
    """The endpoint's script: how it treats each message, by the number that is its data."""

    treats: dict[int, Mode] = field(default_factory=dict)

    def __call__(self, request: Received) -> Answer:
        treated = [self.treats[_number(each, request)] for each in request.events]
        if request.headers["content-type"].endswith("batch+json"):
            named = {"fails": "retry", "refuses": "dead_letter"}
            body: dict[str, list[int]] = {"retry": [], "dead_letter": []}
            for at, mode in enumerate(treated):
                if mode in named:
                    body[named[mode]].append(at)
            return Answer(200, body=json.dumps(body).encode())
        return Answer({"takes": 200, "fails": 404, "refuses": 422}[treated[0]])


def _number(event: Json, request: Received) -> int:
    return int(event.get("data", request.body))


def took(request: Received, answer: Answer, event: Json) -> bool:
    """Say whether this answer takes that event of its request."""
    if not answer.body:
        return answer.ok
    said = json.loads(answer.body)
    return request.events.index(event) not in said["retry"] + said["dead_letter"]


class World:
    """One topic, one subscription, one endpoint."""

    def __init__(
        self, broker: BrokerProcess, ordering: str, when_exhausted: str, format: str
    ) -> None:
        self.broker = broker
        self.topic = f"world-{next(_serial)}"
        self.ordering = ordering
        self.key_of: dict[int, str | None] = {}
        self.excused: set[int] = set()
        self.epochs = [Epoch(0, 1)]
        self.paused = False
        self.patients = Patients()
        self.endpoint = Endpoint(self.patients).start()
        self.api.ok_subscribe(
            self.topic,
            self.endpoint.url,
            ordering=ordering,
            when_exhausted=when_exhausted,
            format=format,
            max_batch=3,
            max_in_flight=3,
            retry=RETRY,
        )
        for key, mode in (("a", "fails"), ("b", "refuses"), ("a", "takes")):
            self.publish(key, mode, 2)

    @property
    def api(self) -> Api:
        return self.broker.api

    def publish(self, key: str | None, mode: Mode, count: int) -> None:
        for number in range(count):
            name = len(self.patients.treats)
            self.patients.treats[name] = mode if number == 0 else "takes"
            self.key_of[self.api.ok_publish(self.topic, name, key=key)] = key

    def heal(self) -> None:
        for name in list(self.patients.treats):
            self.patients.treats[name] = "takes"

    def settle_down(self) -> None:
        """Let everything come to rest that can."""
        eventually(lambda: self.api.ok_status(self.topic)["in_flight"] == 0)

    def pause(self) -> None:
        self.api.pause(self.topic)
        self.paused = True

    def resume(self) -> None:
        self.api.resume(self.topic)
        self.paused = False

    def act_on_a_blocked_one(self, pick: int, action: str) -> None:
        blocked = self.api.deliveries(self.topic, "blocked")
        if not blocked:
            return
        sequence = blocked[pick % len(blocked)]["sequence"]
        accepted(self.api.act(self.topic, f"deliveries/{sequence}/{action}"))

    def act_on_dead_letters(self, pick: int, action: str) -> None:
        dead = self.api.dead_letters(self.topic)
        if not dead:
            return
        sequence = dead[pick % len(dead)]["sequence"]
        if action == "replay all":
            assert self.api.replay(self.topic) >= len(dead)
        elif action == "replay":
            assert self.api.replay(self.topic, sequence) == 1
        else:
            self.excused.add(sequence)
            assert self.api.drop_dead_letter(self.topic, sequence).status_code == 204

    def seek(self, pick: int) -> None:
        """Move it, with nothing out, so that it is known which requests came before."""
        self.api.pause(self.topic)
        self.settle_down()
        to = pick % (max(self.key_of, default=0) + 1) + 1
        owed = {each for each in self.key_of if each >= to}
        assert self.api.seek(self.topic, to) == len(owed)
        assert self.api.backlog(self.topic) == len(owed)
        self.excused = {*self.excused, *self.key_of} - owed
        self.epochs.append(Epoch(len(self.endpoint.requests), to))
        if not self.paused:
            self.api.resume(self.topic)

    def kill(self) -> None:
        self.settle_down()  # else it repeats what is out, and little else
        self.broker.kill()
        self.broker.start()
        for key in ("a", "b"):
            self.publish(key, "takes", 1)

    def check(self) -> None:
        """Heal everything, wait until nothing is owed, and look at what came."""
        self.heal()
        self.api.resume(self.topic)
        eventually(self.nothing_owed, within_s=30)
        self.check_all_are_settled()
        self.check_order()
        assert self.endpoint.faults == []

    def close(self) -> None:
        self.endpoint.close()
        self.api.delete_topic(self.topic, force=True)

    def nothing_owed(self) -> bool:
        for each in self.api.deliveries(self.topic, "blocked"):
            # Another look may have sent it already.
            self.api.act(self.topic, f"deliveries/{each['sequence']}/retry")
        shown = self.api.ok_status(self.topic)
        told: dict[str, Any] = {name: shown[name] for name in ("backlog", "in_flight", "retrying")}
        assert set(told.values()) == {0}, told
        return True

    def check_all_are_settled(self) -> None:
        """Every message was taken since the last seek, or is a dead letter, or was dropped."""
        dead = {each["sequence"] for each in self.api.dead_letters(self.topic, limit=1000)}
        taken: set[int] = set()
        since = self.epochs[-1]
        latest = {id(each) for each in self.endpoint.requests[since.from_request :]}
        for step in self.endpoint.timeline:
            if step.answer is not None and id(step.request) in latest:
                events = zip(step.request.sequences, step.request.events, strict=True)
                taken |= {at for at, each in events if took(step.request, step.answer, each)}
        owed = {each for each in self.key_of if each >= since.from_sequence}
        assert owed - taken - dead - self.excused == set()

    def check_order(self) -> None:
        """Within an epoch, first deliveries of a key, or of an ordered topic, are in order."""
        requests = self.endpoint.requests
        ends = [each.from_request for each in self.epochs[1:]] + [len(requests)]
        for epoch, end in zip(self.epochs, ends, strict=True):
            lanes: dict[str, dict[int, None]] = defaultdict(dict)
            for request in requests[epoch.from_request : end]:
                for sequence in request.sequences:
                    lane = self.lane_of(sequence)
                    if lane is not None and sequence >= epoch.from_sequence:
                        lanes[lane].setdefault(sequence)
            for firsts in lanes.values():
                assert list(firsts) == sorted(firsts), epoch

    def lane_of(self, sequence: int) -> str | None:
        if self.ordering == "topic":
            return "the topic"
        return self.key_of[sequence] if self.ordering == "key" else None


def walk(dice: random.Random, steps: int) -> Iterator[tuple[str, list[Any]]]:
    """Choose steps and what they need; what they meet is up to the broker."""
    for _ in range(steps):
        step = dice.choice(
            ["publish"] * 6
            + ["act_on_a_blocked_one", "act_on_dead_letters"] * 3
            + ["pause", "resume", "resume", "settle_down", "heal", "seek", "kill", "kill"]
        )
        arguments: list[Any] = []
        if step == "publish":
            mode = dice.choice(["takes", "takes", "fails", "refuses"])
            arguments = [dice.choice(["a", "b", "c", None]), mode, dice.randint(1, 4)]
        elif step == "act_on_a_blocked_one":
            arguments = [dice.randrange(100), dice.choice(["retry", "dead-letter"])]
        elif step == "act_on_dead_letters":
            arguments = [dice.randrange(100), dice.choice(["replay", "replay all", "drop"])]
        elif step == "seek":
            arguments = [dice.randrange(100)]
        yield step, arguments


@pytest.mark.parametrize("when_exhausted", ["dead-letter", "block"])
@pytest.mark.parametrize(("ordering", "seed"), [("key", 0), ("key", 1), ("topic", 2), ("none", 3)])
def test_nothing_is_lost_and_no_key_reordered(
    restartable: BrokerProcess, ordering: str, when_exhausted: str, seed: int
) -> None:
    dice = random.Random(seed)
    world = World(restartable, ordering, when_exhausted, dice.choice(["binary", "batch"]))
    try:
        for step, arguments in walk(dice, STEPS):
            print(step, *arguments)
            getattr(world, step)(*arguments)
        world.check()
    finally:
        world.close()
