"""The report as a page for people, RESULTS.md, and as text for a terminal."""

from collections.abc import Sequence

from bench.finding import Chart, Curve, Finding
from bench.percentiles import SHARES
from bench.report import Report, Summary, latency_table, preface, throughput_table
from bench.rivals.known import RIVALS
from bench.table import Table

FOLDER = "results"
ONE_IN = tuple(1 / (1 - share) for share in SHARES)
KINDS = ("publish", "end-to-end")
NOTES = """\
How each figure is taken stands in [README.md](README.md). In the figures of throughput the loader,
the broker and the endpoint share the machine's cores. All that was published was delivered, or the
case has no figure."""
COMPARED = """\
Each keeps its promise on one disk: no publish is answered before its message is synced. The
messages are the same, as is the endpoint, an nginx that refuses what is unsigned. Those brokers
push no webhooks, so a forwarder takes the messages with the broker's own Python client, signs them,
and posts up to 128 at a time over connections kept open, on uvloop: faster than most would write
it, and without retries, circuit or order by key. Costs include the forwarder."""


def to_text(report: Report) -> str:
    """Lay everything out for a terminal."""
    parts = [*preface(report), "", throughput_table(report).to_text()]
    parts += ["", latency_table(report).to_text()]
    for name, finding in report.outcome.findings.items():
        parts += ["", f"== {report.titles[name]}", *finding.sentences]
        for table in finding.tables:
            parts += ["", table.to_text()]
    parts += ["", *_left_out(report)]
    return "\n".join(parts).strip()


def to_markdown(report: Report) -> str:
    """Write the page; its charts are in FOLDER beside it."""
    parts = [
        "# Results",
        "Written by `make bench`; do not edit.",
        NOTES,
        "\n".join(f"- {line}" for line in preface(report)),
        *_section("Throughput", throughput_table(report)),
        *_section("Latency", latency_table(report)),
    ]
    parts += [_image(chart) for chart in latency_charts(report)]
    parts += _comparison(report)
    for name, finding in report.outcome.findings.items():
        parts += [f"## {report.titles[name]}", report.methods[name], *_finding(finding)]
    if left_out := _left_out(report):
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out)]
    return "\n\n".join(part for part in parts if part) + "\n"


def charts(report: Report) -> list[Chart]:
    """Collect all charts to draw."""
    found = [chart for each in report.outcome.findings.values() for chart in each.charts]
    return [*latency_charts(report), *found]


def latency_charts(report: Report) -> list[Chart]:
    """Draw how late messages come, up to the latest of ten thousand."""
    curves = tuple(
        Curve(
            report.titles[name], tuple(1 / (1 - share) for share in SHARES), each.latency.curve_ms
        )
        for name, each in report.summaries.items()
        if each.latency is not None and each.latency.curve_ms
    )
    if not curves:
        return []
    return [
        Chart(
            name="latency",
            title="From due to webhook",
            x_label="one message in so many is later: 100 is p99",
            y_label="milliseconds",
            curves=curves,
            x_log=True,
            y_log=True,
        )
    ]


def _comparison(report: Report) -> list[str]:
    compared = [rival for rival in RIVALS if f"{rival.name}-publish" in report.summaries]
    if not compared:
        return []
    own = [report.summaries.get(name) for name in ("publish-64", "end-to-end")]
    rows = [("this broker", *_rates(own, own))]
    for rival in compared:
        theirs = [report.summaries.get(f"{rival.name}-{kind}") for kind in KINDS]
        rows.append((rival.title, *_rates(theirs, own)))
    head = ("", "publish/s", "x this broker", "publish to webhook/s", "x this broker")
    settings = [f"- {rival.title}: {rival.settings}." for rival in compared]
    table = Table(head, tuple(rows))
    return ["## Beside other brokers", COMPARED, table.to_markdown(), "\n".join(settings)]


def _rates(found: Sequence[Summary | None], own: Sequence[Summary | None]) -> tuple[str, ...]:
    cells: list[str] = []
    for each, ours in zip(found, own, strict=True):
        cells.append("-" if each is None else f"{each.per_second:,.0f}")
        if each is None or ours is None:
            cells.append("-")
        else:
            cells.append(f"{each.per_second / ours.per_second:.2f}")
    return tuple(cells)


def _section(title: str, table: Table) -> list[str]:
    return [f"## {title}", table.to_markdown()] if table.rows else []


def _finding(finding: Finding) -> list[str]:
    tables = [table.to_markdown() for table in finding.tables]
    return [*finding.sentences, *tables, *(_image(chart) for chart in finding.charts)]


def _image(chart: Chart) -> str:
    return f"![{chart.title}]({FOLDER}/{chart.name}.svg)"


def _left_out(report: Report) -> list[str]:
    outcome = report.outcome
    failed = [f"{report.titles[name]} failed: {why}" for name, why in outcome.failures.items()]
    return [*outcome.left_out.values(), *failed]
