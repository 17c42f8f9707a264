"""The plan follows from what was measured and assumed, and the page says what the plan says."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from bench.cluster_cost import Cost, cheapest, costs_in, figures_of
from bench.cluster_usage import Used
from bench.line import Line, fitted
from bench.scale_page import RESULTS, charts, main, read, tables
from bench.scale_plan import (
    TRAFFIC,
    Assumed,
    Measured,
    Prices,
    measured,
    plan,
    rate_of_broker,
    rate_of_group,
    rate_of_nats,
)

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
PRICES = Prices(
    owner_s=20e-6,
    courier_s=0.0,
    standby_s=10e-6,
    leader_s=30e-6,
    follower_s=15e-6,
    journal_bytes=400.0,
    owner_disk_bytes=1000.0,
    standby_disk_bytes=1000.0,
    records=0.01,
)


def cost(records: float, per_second: float = 1000.0) -> Cost:
    """Make costs of which each part takes 10 us of a message and 100 us of a record."""
    used = Used(10e-6 + 100e-6 * records, 1000.0 + 30_000.0 * records)
    return Cost(per_second, records, 400.0, used, Used(), used, used, used, 0.0)


@pytest.fixture
def found() -> Measured:
    """Measurements as simple as that."""
    rest = Cost(1.0, 1.0, 0.0, *[Used()] * 5, 0.0)
    loads = {
        "publish-1": cost(1.0, 500.0),
        "publish-4": cost(0.3),
        "publish-16": cost(0.1),
        "publish-64": cost(0.02),
        "publish-batch": cost(0.001),
        "deliver": cost(0.03),
        "deliver-batch": cost(0.002),
    }
    return measured({"rest": rest, **loads})


def test_line_goes_through_points_that_are_on_one() -> None:
    line = fitted([(x, 3.0 + 2.0 * x) for x in (1.0, 5.0, 20.0)])

    assert (line.base, line.slope) == (pytest.approx(3.0), pytest.approx(2.0))


def test_line_is_never_negative() -> None:
    assert fitted([(1.0, 5.0), (2.0, 1.0)]).slope == 0.0
    assert fitted([(1.0, 1.0), (2.0, 5.0)]).base == 0.0


def test_costs_are_split_into_those_of_a_message_and_those_of_a_record(found: Measured) -> None:
    for part in ("owner", "standby", "leader", "follower"):
        assert found.lines[part] == Line(pytest.approx(10e-6), pytest.approx(100e-6))
    assert found.price_s("publish-64", "leader", records=0.5) == pytest.approx(60e-6)


def test_bytes_grow_with_records_as_well(found: Measured) -> None:
    assert found.prices("publish-64", records=0.5).owner_disk_bytes == pytest.approx(16_000.0)
    assert found.prices("publish-64", records=0.5).journal_bytes == pytest.approx(400.0)


def test_rest_is_taken_off(found: Measured) -> None:
    rest = replace(found.costs["rest"], owner=Used(0.01))
    beside = measured({**found.costs, "rest": rest})

    assert beside.busy_s("publish-64", "owner") == pytest.approx(2e-6)


def test_broker_that_stands_by_for_all_others_owns_less_the_more_there_are() -> None:
    rates = [rate_of_broker(PRICES, Assumed(brokers=n)).per_second for n in (3, 9, 99)]

    assert rates[0] == pytest.approx(0.6 / 40e-6)
    assert rates == sorted(rates, reverse=True)
    # However many: no more than one event loop follows.
    assert 99 * rates[2] < 0.6 / PRICES.standby_s


def test_two_standbys_of_each_cell_let_a_store_grow_with_its_brokers() -> None:
    few, many = (
        rate_of_broker(PRICES, Assumed(brokers=n, follows=2)).per_second for n in (10, 100)
    )

    assert many == pytest.approx(few)


def test_cells_that_rest_take_some_of_the_loop_too() -> None:
    resting = replace(PRICES, owner_rest=0.01, standby_rest=0.02)
    rate = rate_of_broker(resting, Assumed()).per_second

    assert rate == pytest.approx((0.6 - 2 * (0.01 + 2 * 0.02)) / 40e-6)


def test_courier_may_be_what_ends_a_broker() -> None:
    assert "courier" in rate_of_broker(replace(PRICES, courier_s=1e-3), Assumed()).bound


def test_loss_of_a_machine_is_paid_for_before() -> None:
    assumed = Assumed()
    rate = rate_of_broker(PRICES, assumed).per_second
    more = rate * assumed.brokers / (assumed.brokers - 1)

    assert more * (PRICES.owner_s + PRICES.standby_s) <= assumed.degraded + 1e-9


def test_slow_pipes_end_nats_before_its_cores() -> None:
    assert rate_of_nats(PRICES, Assumed(disk_bytes=1e6)).bound == "disk"
    assert rate_of_nats(PRICES, Assumed(network_bytes=1e6)).bound.startswith("network")
    assert rate_of_nats(PRICES, Assumed(cores=1)).bound.startswith("cores")


@pytest.mark.parametrize("traffic", TRAFFIC)
def test_plan_carries_the_rate_and_is_no_larger_than_it_has_to_be(
    found: Measured, traffic: object
) -> None:
    assumed = Assumed()
    made = plan(found, traffic, assumed)  # type: ignore[arg-type]

    assert made.brokers == made.groups * assumed.brokers
    assert made.brokers * made.broker.per_second >= assumed.rate
    assert (made.brokers - assumed.brokers) * made.broker.per_second < assumed.rate
    assert made.broker_machines * made.brokers_a_machine >= made.brokers
    assert made.nats_clusters * made.nats.per_second >= assumed.rate


def test_store_of_one_broker_takes_what_its_largest_topic_may(found: Measured) -> None:
    made = plan(found, TRAFFIC[0], Assumed())
    alone = rate_of_group(found, TRAFFIC[0], Assumed(brokers=1, cells_each=1))

    assert made.one_topic.per_second == pytest.approx(alone)


def test_figures_are_read_as_they_were_written(found: Measured) -> None:
    assert costs_in(figures_of(dict(found.costs))) == found.costs


def test_repeat_that_other_work_disturbed_least_counts() -> None:
    assert cheapest([cost(3.0), cost(1.0), cost(2.0)]) == cost(1.0)


def test_page_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    text = PAGE.read_text()

    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in text


def test_charts_are_those_of_the_page() -> None:
    names = {chart.name for chart in charts(read(RESULTS), Assumed())}

    assert all(f"images/{name}.svg" in PAGE.read_text() for name in names)
    assert len(tables(read(RESULTS), Assumed())) > len(names)
    assert msgspec.json.decode(RESULTS.read_bytes())["machine"]["cores"] > 0
