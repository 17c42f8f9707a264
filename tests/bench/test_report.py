"""Medians over rounds, ratios within a round, aligned tables."""

from dataclasses import replace
from pathlib import Path

import msgspec
from bench.cases import Case
from bench.machine import Machine
from bench.percentiles import Spread
from bench.process_tree import Memory
from bench.report import build_report, summarize, table, to_json, to_text
from bench.result import Cost, Latency, Result

MACHINE = Machine(
    "a processor", 2, 10**9, "6", 0.0, 0.3, "3.14", "3.50", "4", "1", {"broker": "1.0"}
)


def result(messages: int) -> Result:
    cost = Cost(cpu_s=0.5, memory=Memory(60_000_000, 50_000_000), database_bytes=7_000_000)
    return Result(messages=messages, seconds=2.0, cost=cost)


def case(name: str, title: str) -> Case:
    def measure(folder: Path, seconds: float) -> Result:
        raise NotImplementedError

    return Case(name, title, measure)


ROUNDS = [
    {"baseline": result(200), "publish": result(2000)},
    {"baseline": result(100), "publish": result(3000)},
    {"baseline": result(400), "publish": result(4000)},
]


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    summary = summarize("publish", ROUNDS)
    assert summary.ratio == 10.0  # of 10, 30 and 10
    assert summary.per_second == 1500.0
    assert (summary.per_second_lowest, summary.per_second_highest) == (1000.0, 2000.0)


def test_ratio_needs_a_baseline() -> None:
    assert summarize("publish", [{"publish": result(2000)}]).ratio is None


def test_cost_is_told_for_a_thousand_messages() -> None:
    assert summarize("baseline", ROUNDS[:1]).cpu_s_per_1000 == 2.5


def test_latencies_have_medians() -> None:
    spreads = [Spread(1.0, 5.0, 9.0), Spread(2.0, 4.0, 99.0), Spread(3.0, 6.0, 10.0)]
    latencies = [Latency(spread, spread, spread) for spread in spreads]
    rounds = [{"latency": replace(result(10), latency=latency)} for latency in latencies]
    found = summarize("latency", rounds).latency
    assert found is not None
    assert found.to_webhook == Spread(2.0, 5.0, 10.0)


def test_table_is_aligned() -> None:
    assert table(["case", "rate"], [["a", "1,000"], ["longer", "2"]]).splitlines() == [
        "case     rate",
        "------  -----",
        "a       1,000",
        "longer      2",
    ]


def test_text_shows_every_case() -> None:
    cases = [case("baseline", "the baseline"), case("publish", "the broker")]
    lines = to_text(build_report(MACHINE, 2.0, cases, ROUNDS)).splitlines()
    (broker,) = (line for line in lines if line.startswith("the broker"))
    assert broker.split()[2:6] == ["1,500", "1,000-2,000", "10.0", "0.1667"]


def test_json_holds_rounds_and_medians() -> None:
    cases = [case("publish", "the broker")]
    document = msgspec.json.decode(to_json(build_report(MACHINE, 2.0, cases, ROUNDS)))
    assert document["summaries"]["publish"]["per_second"] == 1500.0
    assert [found["publish"]["messages"] for found in document["rounds"]] == [2000, 3000, 4000]
