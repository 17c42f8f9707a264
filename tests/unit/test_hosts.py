"""No host has more requests at once than it should, and no endpoint waits for another for ever."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.dispatch.hosts import Hosts

MOST = 6
HOSTS = ("a", "b")
SLOW, HEALTHY = 1, 2


def test_one_endpoint_has_all_there_is() -> None:
    hosts: Hosts[int] = Hosts(MOST)
    assert [hosts.begins("a", SLOW, n) for n in range(MOST + 1)] == [True] * MOST + [False]
    assert hosts.ended("a", SLOW) == MOST


def test_endpoint_has_its_share_though_a_slow_one_has_all() -> None:
    hosts: Hosts[int] = Hosts(MOST)
    for number in range(2 * MOST):
        hosts.begins("a", SLOW, number)
    share = MOST // 2
    begun = [hosts.begins("a", HEALTHY, number) for number in range(share + 1)]
    assert begun == [True] * share + [False]
    assert hosts.ended("a", HEALTHY) == share  # the next of its own


def test_endpoints_that_wait_take_turns() -> None:
    hosts: Hosts[str] = Hosts(2)
    for name in ("a", "b"):
        assert hosts.begins("h", 0, name)
    for number in range(2):
        for endpoint in (1, 2, 3):
            hosts.begins("h", endpoint, f"{endpoint}.{number}")
    # Each had its share of one already; what waits is the second of each.
    assert not hosts.ended("h", 0)
    assert not hosts.ended("h", 0)
    assert [hosts.ended("h", 1), hosts.ended("h", 2)] == ["1.1", "2.1"]
    assert hosts.ended("h", 3) == "3.1"


def test_full_host_is_no_matter_to_another() -> None:
    hosts: Hosts[int] = Hosts(MOST)
    for number in range(2 * MOST):
        hosts.begins("a", SLOW, number)
    assert all(hosts.begins("b", SLOW, number) for number in range(MOST))


class Machine(RuleBasedStateMachine):
    """Requests begin and end in any order, to two hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: Hosts[tuple[str, int, int]] = Hosts(MOST)
        self.asked: dict[tuple[str, int], int] = defaultdict(int)
        self.begun: dict[tuple[str, int], int] = defaultdict(int)
        self.out: list[tuple[str, int]] = []

    @rule(host=st.sampled_from(HOSTS), endpoint=st.integers(1, 9), count=st.integers(1, 5))
    def ask(self, host: str, endpoint: int, count: int) -> None:
        for _ in range(count):
            request = (host, endpoint, self.asked[host, endpoint])
            self.asked[host, endpoint] += 1
            if self.hosts.begins(host, endpoint, request):
                self.begin(request)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        host, endpoint = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        following = self.hosts.ended(host, endpoint)
        if following is not None:
            assert following[0] == host
            self.begin(following)

    def begin(self, request: tuple[str, int, int]) -> None:
        host, endpoint, number = request
        assert number == self.begun[host, endpoint]  # in the order of the endpoint
        self.begun[host, endpoint] += 1
        self.out.append((host, endpoint))

    @invariant()
    def no_more_than_all_and_the_shares(self) -> None:
        for host in HOSTS:
            assert sum(each == host for each, _ in self.out) < 2 * MOST + 9

    @invariant()
    def nobody_waits_without_having_one_out(self) -> None:
        for key, asked in self.asked.items():
            if asked > self.begun[key]:
                assert key in self.out

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        for host in HOSTS:
            waits = any(n > self.begun[key] for key, n in self.asked.items() if key[0] == host)
            assert not waits or sum(each == host for each, _ in self.out) >= MOST

    def teardown(self) -> None:
        while self.out:
            host, endpoint = self.out.pop()
            following = self.hosts.ended(host, endpoint)
            if following is not None:
                self.begin(following)
        assert self.begun == self.asked


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestHostsMachine = Machine.TestCase
