"""Medians over rounds, ratios within a round, and a page of it all."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from bench.cases import Case
from bench.drawing import draw_all
from bench.finding import Chart, Curve, Finding, Say, Study
from bench.machine import Machine
from bench.page import charts, to_markdown, to_text
from bench.percentiles import SHARES, Spread
from bench.process_tree import Memory
from bench.report import Outcome, Report, build_report, summarize, to_json
from bench.result import Cost, Latency, Result
from bench.scale import QUICK, Scale
from bench.table import Table

MACHINE = Machine(
    "a processor", 2, 10**9, "6", 0.0, 0.3, "3.14", "3.50", "4", "1", {"broker": "1.0"}, {"N": "2"}
)


def result(messages: int) -> Result:
    cost = Cost(cpu_s=0.5, memory=Memory(60_000_000, 50_000_000), database_bytes=7_000_000)
    return Result(messages=messages, seconds=2.0, cost=cost)


def latency(p50: float, p99: float, longest: float) -> Latency:
    spread = Spread(p50, p99, longest)
    return Latency(spread, spread, spread, curve_ms=(p50,) * len(SHARES))


def case(name: str, title: str) -> Case:
    def measure(folder: Path, seconds: float) -> Result:
        raise NotImplementedError

    return Case(name, title, measure)


def study(name: str, title: str) -> Study:
    def measure(folder: Path, scale: Scale, say: Say) -> Finding:
        raise NotImplementedError

    return Study(name, title, f"How {name} is measured.", measure)


ROUNDS = [
    {"baseline": result(200), "publish-64": result(2000)},
    {"baseline": result(100), "publish-64": result(3000)},
    {"baseline": result(400), "publish-64": result(4000)},
]
CHART = Chart(
    name="growing",
    title="Growing",
    x_label="size",
    y_label="cost",
    curves=(Curve("a", (0.0, 1.0), (2.0, 3.0)), Curve("b", (0.0, 1.0), (1.0, 1.0))),
)
FINDING = Finding(
    sentences=("It does not grow.",),
    tables=(Table(("size", "cost"), (("1", "2"),)),),
    charts=(CHART,),
)


def report(outcome: Outcome) -> Report:
    cases = [case("baseline", "the baseline"), case("publish-64", "the broker")]
    cases += [case("latency-500", "at 500/s"), case("nats-publish", "NATS: publish")]
    return build_report(MACHINE, QUICK, 3.0, cases, [study("growth", "What grows")], outcome)


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    summary = summarize("publish-64", ROUNDS)
    assert summary.ratio == 10.0  # of 10, 30 and 10
    assert summary.per_second == 1500.0
    assert (summary.per_second_lowest, summary.per_second_highest) == (1000.0, 2000.0)


def test_ratio_needs_a_baseline() -> None:
    assert summarize("publish-64", [{"publish-64": result(2000)}]).ratio is None


def test_round_in_which_a_case_failed_is_left_out() -> None:
    summary = summarize("publish-64", [*ROUNDS[:1], {"baseline": result(100)}])
    assert (summary.per_second, summary.ratio) == (1000.0, 10.0)


def test_cost_is_told_for_a_thousand_messages() -> None:
    assert summarize("baseline", ROUNDS[:1]).cpu_s_per_1000 == 2.5


def test_latencies_have_medians() -> None:
    latencies = [latency(1.0, 5.0, 9.0), latency(2.0, 4.0, 99.0), latency(3.0, 6.0, 10.0)]
    rounds = [{"latency": replace(result(10), latency=each)} for each in latencies]
    found = summarize("latency", rounds).latency
    assert found is not None
    assert found.to_webhook == Spread(2.0, 5.0, 10.0)
    assert set(found.curve_ms) == {2.0}


def test_text_shows_every_case_and_finding() -> None:
    text = to_text(report(Outcome(ROUNDS, {"growth": FINDING})))
    (broker,) = (line for line in text.splitlines() if line.startswith("the broker"))
    assert broker.split()[2:6] == ["1,500", "1,000-2,000", "10.0", "0.1667"]
    assert "== What grows\nIt does not grow." in text


def test_page_has_methods_findings_and_charts() -> None:
    page = to_markdown(report(Outcome(ROUNDS, {"growth": FINDING})))
    assert "## What grows\n\nHow growth is measured.\n\nIt does not grow.\n\n| size |" in page
    assert "![Growing](results/growing.svg)" in page
    assert "| the broker | 1,500 |" in page


def test_page_tells_what_is_left_out_and_what_failed() -> None:
    outcome = Outcome(ROUNDS, {}, {"nats-publish": "NATS is left out."}, {"growth": "no room"})
    lines = to_markdown(report(outcome)).splitlines()
    assert "- NATS is left out." in lines
    assert "- What grows failed: no room" in lines


def test_other_brokers_are_compared_with_this_one() -> None:
    rounds = [{"publish-64": result(2000), "nats-publish": result(500)}]
    page = to_markdown(report(Outcome(rounds)))
    assert "| this broker | 1,000 | 1.00 | - | - |" in page
    assert "| NATS JetStream | 250 | 0.25 | - | - |" in page


def test_charts_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    rounds = [{"latency-500": replace(result(10), latency=latency(1.0, 2.0, 3.0))}]
    drawn = charts(report(Outcome(rounds, {"growth": FINDING})))
    draw_all(drawn, tmp_path / "one")
    draw_all(drawn, tmp_path / "two")
    names = ["growing.svg", "latency.svg"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_json_holds_rounds_and_medians() -> None:
    document = msgspec.json.decode(to_json(report(Outcome(ROUNDS, {"growth": FINDING}))))
    assert document["summaries"]["publish-64"]["per_second"] == 1500.0
    found = [each["publish-64"]["messages"] for each in document["outcome"]["rounds"]]
    assert found == [2000, 3000, 4000]


@pytest.mark.parametrize("outcome", [Outcome(), Outcome([{}])])
def test_run_that_measured_nothing_has_a_page(outcome: Outcome) -> None:
    assert to_markdown(report(outcome)).startswith("# Results")
    assert to_text(report(outcome))
