"""The simulation of a cell and the formulas for it say about the same."""

import pytest
from bench.cell_model import (
    Cell,
    mean_latency_s,
    records_per_second,
    simulate_closed,
    simulate_open,
    utilisation,
)

CELL = Cell(request_s=50e-6, record_s=200e-6, away_s=1e-3)


def test_request_alone_takes_its_own_time_and_nothing_more() -> None:
    seen = simulate_open(CELL, rate=1.0, requests=50)

    assert seen.quantile_s(0.5) == pytest.approx(1.25e-3)
    assert (seen.records, len(seen.latencies_s)) == (50, 50)


@pytest.mark.parametrize("rate", [10, 200, 1_000, 5_000, 10_000, 14_000])
def test_formula_is_near_the_simulation(rate: float) -> None:
    seen = simulate_open(CELL, rate, requests=60_000)

    assert mean_latency_s(CELL, rate) == pytest.approx(seen.mean_s, rel=0.15)
    assert records_per_second(CELL, rate) == pytest.approx(seen.records / seen.seconds, rel=0.2)


def test_more_than_the_loop_can_do_has_no_latency() -> None:
    assert utilisation(CELL, 20_000) >= 1
    assert mean_latency_s(CELL, 20_000) == float("inf")


def test_closed_loop_of_one_asks_after_each_answer() -> None:
    seen = simulate_closed(CELL, clients=1, requests=100)

    assert seen.per_second == pytest.approx(1 / 1.25e-3)
    assert seen.records == 100


def test_many_clients_share_records_and_come_near_to_what_the_loop_can_do() -> None:
    seen = simulate_closed(CELL, clients=256, requests=50_000)

    assert len(seen.latencies_s) == 50_000
    assert seen.records < 1_000
    assert seen.per_second == pytest.approx(CELL.most_per_second, rel=0.2)


def test_same_seed_sees_the_same() -> None:
    assert simulate_open(CELL, 1_000, 1_000) == simulate_open(CELL, 1_000, 1_000)
