"""Medians over the rounds, and what the studies found, for programs and as tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec

from bench.cases import BASELINE, Case
from bench.finding import Finding, Study
from bench.machine import Machine
from bench.percentiles import Spread
from bench.result import Latency, Result
from bench.scale import Scale
from bench.table import Table

MB = 1e6
Round = Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Summary:
    """One case over all rounds: medians, and the lowest and highest rate.

    `ratio` is the median of the ratios to the baseline of the same round.
    """

    per_second: float
    per_second_lowest: float
    per_second_highest: float
    ratio: float | None
    cpu_s_per_1000: float
    pss_bytes: float
    rss_bytes: float
    database_bytes: float
    backlog: float
    errors: float
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did: results by round, findings, and why each of the others has none."""

    rounds: list[dict[str, Result]] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one run of the bench found; `titles` and `methods` are by name."""

    machine: Machine
    scale: Scale
    minutes: float
    titles: dict[str, str]
    methods: dict[str, str]
    summaries: dict[str, Summary]
    outcome: Outcome


def build_report(
    machine: Machine,
    scale: Scale,
    minutes: float,
    cases: Sequence[Case],
    studies: Sequence[Study],
    outcome: Outcome,
) -> Report:
    """Sum up a run that took so many minutes."""
    measured = {name for results in outcome.rounds for name in results}
    return Report(
        machine=machine,
        scale=scale,
        minutes=round(minutes, 1),
        titles={case.name: case.title for case in cases}
        | {study.name: study.title for study in studies},
        methods={study.name: study.method for study in studies},
        summaries={
            case.name: summarize(case.name, outcome.rounds)
            for case in cases
            if case.name in measured
        },
        outcome=outcome,
    )


def summarize(name: str, rounds: Sequence[Round]) -> Summary:
    """Sum up one case, over the rounds that have it."""
    results = [results[name] for results in rounds if name in results]
    rates = [result.per_second for result in results]
    ratios = [
        results[name].per_second / results[BASELINE].per_second
        for results in rounds
        if BASELINE in results and name in results
    ]
    return Summary(
        per_second=median(rates),
        per_second_lowest=min(rates),
        per_second_highest=max(rates),
        ratio=median(ratios) if ratios else None,
        cpu_s_per_1000=median(result.cpu_s_per_1000 for result in results),
        pss_bytes=median(result.cost.memory.pss_bytes for result in results),
        rss_bytes=median(result.cost.memory.rss_bytes for result in results),
        database_bytes=median(result.cost.database_bytes for result in results),
        backlog=median(result.backlog for result in results),
        errors=median(result.errors for result in results),
        latency=_median_latency([r.latency for r in results if r.latency is not None]),
    )


def _median_latency(found: Sequence[Latency]) -> Latency | None:
    if not found:
        return None
    return Latency(
        to_webhook=_median_spread(latency.to_webhook for latency in found),
        to_answer=_median_spread(latency.to_answer for latency in found),
        to_send=_median_spread(latency.to_send for latency in found),
        curve_ms=tuple(
            median(values) for values in zip(*(each.curve_ms for each in found), strict=True)
        ),
    )


def _median_spread(spreads: Iterable[Spread]) -> Spread:
    found = list(spreads)
    return Spread(
        median(spread.p50_ms for spread in found),
        median(spread.p99_ms for spread in found),
        median(spread.max_ms for spread in found),
    )


def to_json(report: Report) -> bytes:
    """Write the report for programs."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def preface(report: Report) -> list[str]:
    """Say how much was done, and on what."""
    machine, scale = report.machine, report.scale
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    others = "".join(f"; {title} {number}" for title, number in machine.rivals.items())
    return [
        f"{len(report.outcome.rounds)} round(s), {scale.case_s} s of load a case; medians over the"
        f" rounds, ratios within one round; {report.minutes:.0f} minutes in all.",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB, Linux"
        f" {machine.kernel}; load before the run {machine.load:.2f}; a 4 KiB sync takes"
        f" {machine.sync_ms} ms.",
        f"Python {machine.python}, SQLite {machine.sqlite}, {packages}; wrk {machine.wrk},"
        f" nginx {machine.nginx}{others}.",
    ]


def throughput_table(report: Report) -> Table:
    """Lay out the cases that measure a rate."""
    cost = ("CPU s/1,000", "RSS (PSS) MB", "database MB", "backlog", "errors")
    head = ("throughput", "messages/s", "lowest-highest", "x baseline", *cost)
    rows = [
        (
            report.titles[name],
            f"{found.per_second:,.0f}",
            f"{found.per_second_lowest:,.0f}-{found.per_second_highest:,.0f}",
            "-" if found.ratio is None else f"{found.ratio:.1f}",
            f"{found.cpu_s_per_1000:.4f}",
            f"{found.rss_bytes / MB:.0f} ({found.pss_bytes / MB:.0f})",
            f"{found.database_bytes / MB:.0f}",
            f"{found.backlog:,.0f}",
            f"{found.errors:,.0f}",
        )
        for name, found in report.summaries.items()
        if found.latency is None
    ]
    return Table(head, tuple(rows))


def latency_table(report: Report) -> Table:
    """Lay out the cases that measure a time."""
    times = ("to webhook: p50", "p99", "max", "to 201: p50", "p99", "max", "sent late: p99")
    head = ("latency, ms", *times, "CPU s/1,000", "RSS (PSS) MB")
    rows = [
        (
            report.titles[name],
            *_cells(found.latency.to_webhook),
            *_cells(found.latency.to_answer),
            f"{found.latency.to_send.p99_ms:.2f}",
            f"{found.cpu_s_per_1000:.4f}",
            f"{found.rss_bytes / MB:.0f} ({found.pss_bytes / MB:.0f})",
        )
        for name, found in report.summaries.items()
        if found.latency is not None
    ]
    return Table(head, tuple(rows))


def _cells(spread: Spread) -> tuple[str, str, str]:
    return (f"{spread.p50_ms:.2f}", f"{spread.p99_ms:.2f}", f"{spread.max_ms:.2f}")
