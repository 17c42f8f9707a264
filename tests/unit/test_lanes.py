"""Keys in order: never two of a key out at once, nothing lost, no memory for what is done."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from broker.dispatch.lanes import Delivery, Lanes
from broker.model import Message

KEYS = st.sampled_from("abc")
PAGE = 3


def delivery(seq: int, key: str | None = "a") -> Delivery:
    return Delivery(Message(seq, key, b"{}", None, 0.0))


def test_first_of_a_key_goes_at_once_and_the_next_waits() -> None:
    lanes, second = Lanes(), delivery(2)
    assert lanes.admit("a", delivery(1)) is True
    assert lanes.admit("a", second) is None
    assert lanes.admit("b", delivery(3, "b")) is True
    assert lanes.waiting_count == 1
    assert lanes.settled("a") is second
    assert lanes.settled("a") is None
    assert lanes.settled("b") is None
    assert len(lanes) == lanes.waiting_count == 0


def test_those_that_wait_may_follow_in_one_request_up_to_the_limit() -> None:
    lanes = Lanes()
    for seq in range(1, 5):
        lanes.admit("a", delivery(seq))
    assert [d.message.seq for d in lanes.follow("a", 2)] == [2, 3]
    assert [lanes.settled("a") for _ in range(2)] == [None, None]
    last = lanes.settled("a")
    assert last is not None
    assert last.message.seq == 4


def test_key_that_waits_for_a_retry_costs_no_memory() -> None:
    lanes = Lanes()
    lanes.admit("a", delivery(1))
    lanes.admit("a", delivery(2))
    assert [d.message.seq for d in lanes.park("a")] == [2]
    assert lanes.admit("a", delivery(3)) is False
    assert lanes.waiting_count == 0
    lanes.resume("a")
    assert lanes.settled("a") is None
    assert lanes.wants_held("a")


def test_key_that_waits_in_the_store_is_taken_over() -> None:
    lanes = Lanes()
    lanes.restore(["a"])
    assert lanes.admit("a", delivery(5)) is False
    assert not lanes.wants_held("a")
    lanes.unpark("a")
    assert lanes.wants_held("a")


def test_beyond_some_parked_keys_the_oldest_are_forgotten_and_the_lanes_say_so() -> None:
    lanes = Lanes(kept=3)
    lanes.restore("abc")
    assert not lanes.forgetful
    lanes.restore("d")
    assert lanes.forgetful
    assert [key for key in "abcd" if lanes.knows(key)] == ["b", "c", "d"]
    lanes.resume("a")  # its row is due: it is known again
    assert lanes.knows("a")
    assert lanes.admit("a", delivery(9)) is False


def test_room_is_made_in_the_longest_lane() -> None:
    lanes = Lanes()
    for seq, key in enumerate("aabbbc"):
        lanes.admit(key, delivery(seq, key))
    assert [d.message.seq for d in lanes.spill_longest()] == [3, 4]
    assert lanes.waiting_count == 1
    assert lanes.admit("b", delivery(7, "b")) is False
    assert lanes.admit("a", delivery(8)) is None
    assert [d.message.seq for d in lanes.spill_all()] == [1, 8]


def test_much_room_is_made_in_the_longest_lanes() -> None:
    lanes = Lanes()
    for seq, key in enumerate("aaabbbbccd"):
        lanes.admit(key, delivery(seq, key))
    assert lanes.waiting_count == 6
    assert [d.message.seq for d in lanes.spill_half()] == [4, 5, 6]
    assert [d.message.seq for d in lanes.spill_half()] == [1, 2]
    assert [d.message.seq for d in lanes.spill_half()] == [8]
    assert lanes.spill_half() == []


def test_those_that_followed_a_lost_request_wait_again_before_all_others() -> None:
    lanes = Lanes()
    for seq in range(1, 5):
        lanes.admit("a", delivery(seq))
    lanes.unfollow("a", list(lanes.follow("a", 2)))
    assert [d.message.seq for d in lanes.follow("a", 9)] == [2, 3, 4]


def test_key_with_something_out_looks_in_the_store_next() -> None:
    lanes = Lanes()
    lanes.admit("a", delivery(1))
    assert lanes.continue_in_store() == ["a"]
    assert lanes.settled("a") is None
    assert lanes.wants_held("a")


def test_what_others_sent_occupies_its_key() -> None:
    lanes = Lanes()
    lanes.occupy("a")
    second = delivery(2)
    assert lanes.admit("a", second) is None
    assert lanes.settled("a") is second


@pytest.mark.parametrize("more", [True, False])
def test_refill_with_nothing_frees_the_key_or_asks_again(more: bool) -> None:
    lanes = Lanes()
    lanes.restore("a")
    lanes.resume("a")
    lanes.settled("a")
    assert lanes.refill("a", [], more) is None
    assert len(lanes) == (1 if more else 0)


class LanesMachine(RuleBasedStateMachine):
    """The pump's part and the store's, reduced to what lanes need; the model is what came in.

    `store` has the held rows by key, `due` those rows that wait for a retry.
    """

    requests: Bundle[tuple[Delivery, ...]] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.last_seq = 0
        self.came: dict[str, list[int]] = {}
        self.settled: dict[str, list[int]] = {}
        self.ready: deque[Delivery] = deque()
        self.out: list[tuple[Delivery, ...]] = []
        self.store: dict[str, list[Delivery]] = {}
        self.due: dict[str, Delivery] = {}
        self.wanting: set[str] = set()

    # -- what the pump does ------------------------------------------------------------------

    @initialize(waiting=st.dictionaries(KEYS, st.integers(1, 5), max_size=2))
    def take_over(self, waiting: dict[str, int]) -> None:
        for key, count in waiting.items():
            first, *others = [self.new(key) for _ in range(count)]
            self.due[key] = first
            self.store[key] = others
            self.lanes.restore([key])

    @rule(key=KEYS, count=st.integers(1, 4))
    def fetch(self, key: str, count: int) -> None:
        for _ in range(count):
            arrived = self.new(key)
            admitted = self.lanes.admit(key, arrived)
            if admitted:
                self.ready.append(arrived)
            elif admitted is False:
                self.hold(key, [arrived])

    @precondition(lambda self: self.ready)
    @rule(target=requests, size=st.integers(1, 4))
    def send(self, size: int) -> tuple[Delivery, ...]:
        batch: list[Delivery] = []
        while self.ready and len(batch) < size:
            first = self.ready.popleft()
            batch.append(first)
            batch.extend(self.lanes.follow(str(first.message.key), size - len(batch)))
        self.out.append(tuple(batch))
        return tuple(batch)

    @rule(request=consumes(requests))
    def ack(self, request: tuple[Delivery, ...]) -> None:
        self.out.remove(request)
        for done in request:
            self.settle(done)

    @rule(request=consumes(requests), data=st.data())
    def fail_some(self, request: tuple[Delivery, ...], data: st.DataObject) -> None:
        """As the pump does: of each key what stands before its first failure is acked."""
        self.out.remove(request)
        failed = data.draw(st.sets(st.sampled_from(range(len(request))), min_size=1))
        stopped: list[Delivery] = []
        for position, tried in enumerate(request):
            keys = {again.message.key for again in stopped}
            if position in failed or tried.message.key in keys:
                stopped.append(tried)
            else:
                self.settle(tried)
        for again in stopped:
            key = str(again.message.key)
            if key not in self.due:
                self.due[key] = again
                self.hold(key, self.lanes.park(key))
            else:
                self.hold(key, [again])

    @rule(request=consumes(requests))
    def lose(self, request: tuple[Delivery, ...]) -> None:
        self.out.remove(request)
        for key in sorted({str(again.message.key) for again in request}):
            first, *behind = [again for again in request if again.message.key == key]
            self.lanes.unfollow(key, behind)
            self.ready.appendleft(first)

    @rule(request=requests)
    def take_long(self, request: tuple[Delivery, ...]) -> None:
        for slow in request:
            key = str(slow.message.key)
            self.hold(key, self.lanes.spill(key))

    @precondition(lambda self: self.lanes.waiting_count)
    @rule()
    def make_room(self) -> None:
        spilled = self.lanes.spill_longest()
        assert spilled
        self.hold(str(spilled[0].message.key), spilled)

    @precondition(lambda self: self.due)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.due)))
        self.resume(key)

    @precondition(lambda self: self.wanting)
    @rule(data=st.data())
    def read_held(self, data: st.DataObject) -> None:
        self.read_on(data.draw(st.sampled_from(sorted(self.wanting))))

    # -- parts -------------------------------------------------------------------------------

    def new(self, key: str) -> Delivery:
        self.last_seq += 1
        self.came.setdefault(key, []).append(self.last_seq)
        return delivery(self.last_seq, key)

    def hold(self, key: str, deliveries: list[Delivery]) -> None:
        self.store.setdefault(key, []).extend(deliveries)

    def resume(self, key: str) -> None:
        self.lanes.resume(key)
        self.ready.append(self.due.pop(key))

    def settle(self, done: Delivery) -> None:
        key = str(done.message.key)
        self.settled.setdefault(key, []).append(done.message.seq)
        self.go_on(key, self.lanes.settled(key))

    def read_on(self, key: str) -> None:
        self.wanting.discard(key)
        if self.lanes.wants_held(key):
            held = sorted(self.store.get(key, []), key=lambda row: row.message.seq)
            page, self.store[key] = held[:PAGE], held[PAGE:]
            self.go_on(key, self.lanes.refill(key, page, more=len(page) == PAGE))

    def go_on(self, key: str, following: Delivery | None) -> None:
        if following is not None:
            self.ready.append(following)
        elif self.lanes.wants_held(key):
            self.wanting.add(key)

    # -- what must always hold ---------------------------------------------------------------

    @invariant()
    def no_two_of_a_key_are_out_but_in_one_request(self) -> None:
        places = [{d.message.key for d in request} for request in (*self.out, self.ready)]
        for key in self.came:
            assert sum(key in keys for keys in places) + (key in self.due) <= 1

    @invariant()
    def each_key_settles_in_order(self) -> None:
        for key, settled in self.settled.items():
            assert settled == self.came[key][: len(settled)]

    @invariant()
    def nothing_is_lost(self) -> None:
        places = (*self.settled.values(), *self.out, *self.store.values(), self.ready, self.due)
        assert sum(map(len, places)) + self.lanes.waiting_count == self.last_seq

    def teardown(self) -> None:
        """Let everything end well: then all is settled, in order, and no lane is left."""
        while self.ready or self.out or self.due or self.wanting:
            for key in sorted(self.due):
                self.resume(key)
            while self.ready:
                self.send(2)
            for request in list(self.out):
                self.ack(request)
            for key in sorted(self.wanting):
                self.read_on(key)
        assert self.settled == self.came
        assert len(self.lanes) == self.lanes.waiting_count == 0


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(settings.default, stateful_step_count=40)
