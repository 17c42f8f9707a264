"""Which courier has which endpoint, and what of it depends on one."""

from __future__ import annotations

import asyncio

import pytest

from broker.dispatch import couriers as module
from broker.dispatch.courier_line import CourierLine
from broker.dispatch.couriers import Couriers
from broker.dispatch.frames import Ask, Endpoint, Job
from broker.targets import AllowedTargets
from broker.tls import Tls
from unit.pump_world import SUBSCRIPTION


class Line(CourierLine):
    """A line without a process: up once it is begun, and down when a test says so."""

    def __init__(self, *_: object) -> None:
        self.endpoints: dict[int, str] = {}
        self.sent: list[Job | Ask] = []
        self.up = False
        self.down = False

    async def start(self) -> None:
        self.up = True

    def begin(self) -> None:
        self.up = True

    def alive(self) -> bool:
        return self.up and not self.down

    def broken(self) -> bool:
        return self.down

    def endpoint_count(self) -> int:
        return len(self.endpoints)

    def set_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.id] = endpoint.url

    def forget_endpoint(self, id_: int) -> None:
        del self.endpoints[id_]

    def send(self, _: object, jobs: list[Job]) -> None:
        self.sent += jobs

    def ask(self, _: object, ask: Ask) -> None:
        self.sent.append(ask)


class Nobody:
    """A sender that hears nothing here."""

    subscription = SUBSCRIPTION

    def ended(self, outcomes: object) -> None: ...

    def lost(self, job: int) -> None: ...


def endpoint(id_: int, url: str = "https://a.example") -> Endpoint:
    return Endpoint(id_, url, "binary", [b"k"], [], 1000, [], "m-")


@pytest.fixture
def lines() -> list[Line]:
    """Return the lines of `couriers`, in their order."""
    return []


@pytest.fixture
def couriers(lines: list[Line], monkeypatch: pytest.MonkeyPatch) -> Couriers:
    """Return three couriers, the first of which has been started."""

    def line(*_: object) -> Line:
        lines.append(Line())
        return lines[-1]

    monkeypatch.setattr(module, "CourierLine", line)
    made = Couriers(AllowedTargets(), Tls(), None, count=3)
    asyncio.run(made.start())
    return made


def test_new_endpoint_goes_to_the_courier_with_the_fewest(
    couriers: Couriers, lines: list[Line]
) -> None:
    for id_ in range(1, 8):
        couriers.set_endpoint(endpoint(id_))

    assert [list(line.endpoints) for line in lines] == [[1, 4, 7], [2, 5], [3, 6]]


def test_endpoint_that_changes_stays_where_it_is(couriers: Couriers, lines: list[Line]) -> None:
    for id_ in (1, 2, 3, 4):
        couriers.set_endpoint(endpoint(id_))
    couriers.set_endpoint(endpoint(4, "https://b.example"))

    assert [len(line.endpoints) for line in lines] == [2, 1, 1]
    assert lines[0].endpoints[4] == "https://b.example"


def test_place_of_one_that_is_forgotten_is_taken_first(
    couriers: Couriers, lines: list[Line]
) -> None:
    for id_ in range(1, 7):
        couriers.set_endpoint(endpoint(id_))
    couriers.forget_endpoint(3)
    couriers.forget_endpoint(99)
    couriers.set_endpoint(endpoint(7))

    assert [list(line.endpoints) for line in lines] == [[1, 4], [2, 5], [6, 7]]


def test_courier_starts_when_it_is_needed(couriers: Couriers, lines: list[Line]) -> None:
    couriers.set_endpoint(endpoint(1))
    assert [line.up for line in lines] == [True, False, False]
    couriers.set_endpoint(endpoint(2))
    assert [line.up for line in lines] == [True, True, False]
    assert couriers.alive()


def test_jobs_go_to_the_courier_of_their_endpoint_by_ids_that_are_never_the_same(
    couriers: Couriers, lines: list[Line]
) -> None:
    for id_ in (1, 2):
        couriers.set_endpoint(endpoint(id_))

    request = (1, [], [])
    assert couriers.send(Nobody(), 2, [request, request]) == [1, 2]
    assert couriers.ask(Nobody(), 1, []) == 3
    assert couriers.send(Nobody(), 1, [request]) == [4]

    assert [[job.id for job in line.sent] for line in lines] == [[3, 4], [1, 2], []]


def test_courier_that_is_gone_keeps_only_its_own_endpoints_from_being_reached(
    couriers: Couriers, lines: list[Line]
) -> None:
    for id_ in (1, 2, 3):
        couriers.set_endpoint(endpoint(id_))
    lines[1].down = True

    assert [couriers.reaches(id_) for id_ in (1, 2, 3)] == [True, False, True]
    assert not couriers.alive()


def test_endpoint_that_nobody_has_told_of_is_not_reached(couriers: Couriers) -> None:
    assert not couriers.reaches(1)
