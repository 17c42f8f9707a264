"""Medians over the rounds, for people and for programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from bench.cases import BASELINE, Case
from bench.machine import Machine
from bench.percentiles import Spread
from bench.result import Latency, Result

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
class Report:
    """All that one run of the bench found; `seconds` is the time a case is under load."""

    machine: Machine
    seconds: float
    titles: dict[str, str]
    summaries: dict[str, Summary]
    rounds: Sequence[Round]


def build_report(
    machine: Machine, seconds: float, cases: Sequence[Case], rounds: Sequence[Round]
) -> Report:
    """Sum up the rounds."""
    titles = {case.name: case.title for case in cases}
    summaries = {name: summarize(name, rounds) for name in titles}
    return Report(machine, seconds, titles, summaries, rounds)


def summarize(name: str, rounds: Sequence[Round]) -> Summary:
    """Sum up one case."""
    results = [results[name] for results in rounds]
    rates = [result.per_second for result in results]
    ratios = [
        results[name].per_second / results[BASELINE].per_second
        for results in rounds
        if BASELINE in results
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


def to_text(report: Report) -> str:
    """Write the report for people."""
    parts = [*_preface(report), "", throughput_table(report), "", latency_table(report)]
    return "\n".join(parts).rstrip()


def _preface(report: Report) -> list[str]:
    machine = report.machine
    packages = ", ".join(f"{name} {number}" for name, number in machine.packages.items())
    return [
        f"{len(report.rounds)} round(s), {report.seconds:g} s of load a case; medians over rounds",
        f"{machine.processor}, {machine.cores} cores, Linux {machine.kernel};"
        f" load before the run {machine.load:.2f}; a 4 KiB sync takes {machine.sync_ms} ms",
        f"Python {machine.python}, SQLite {machine.sqlite}, {packages};"
        f" wrk {machine.wrk}, nginx {machine.nginx}",
    ]


def throughput_table(report: Report) -> str:
    """Lay out the cases that measure a rate."""
    head = ["throughput", "messages/s", "lowest-highest", "x baseline", "CPU s/1,000"]
    head += ["RSS (PSS) MB", "database MB", "backlog", "errors"]
    rows = [
        [
            report.titles[name],
            f"{found.per_second:,.0f}",
            f"{found.per_second_lowest:,.0f}-{found.per_second_highest:,.0f}",
            "-" if found.ratio is None else f"{found.ratio:.1f}",
            f"{found.cpu_s_per_1000:.4f}",
            f"{found.rss_bytes / MB:.0f} ({found.pss_bytes / MB:.0f})",
            f"{found.database_bytes / MB:.0f}",
            f"{found.backlog:,.0f}",
            f"{found.errors:,.0f}",
        ]
        for name, found in report.summaries.items()
        if found.latency is None
    ]
    return table(head, rows)


def latency_table(report: Report) -> str:
    """Lay out the cases that measure a time."""
    head = ["latency, ms", "to webhook: p50", "p99", "max", "to 201: p50", "p99", "max"]
    head += ["sent late: p99", "CPU s/1,000", "RSS (PSS) MB"]
    rows = [
        [
            report.titles[name],
            *_cells(found.latency.to_webhook),
            *_cells(found.latency.to_answer),
            f"{found.latency.to_send.p99_ms:.2f}",
            f"{found.cpu_s_per_1000:.4f}",
            f"{found.rss_bytes / MB:.0f} ({found.pss_bytes / MB:.0f})",
        ]
        for name, found in report.summaries.items()
        if found.latency is not None
    ]
    return table(head, rows)


def _cells(spread: Spread) -> list[str]:
    return [f"{spread.p50_ms:.2f}", f"{spread.p99_ms:.2f}", f"{spread.max_ms:.2f}"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the first column left and the others right; nothing for no rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(aligned).rstrip()
