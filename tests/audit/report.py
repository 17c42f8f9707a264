"""What a run has found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from audit.figures import COUNTS, Figures
from audit.outages import Outage

HEAD = ("", "promise", "expected", "came", *COUNTS)
OUTAGE_HEAD = (
    "without service, in s",
    "",
    "times",
    "publish median",
    "max",
    "webhook median",
    "max",
)


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run has found.

    `surprises` are what no fault of the storm explains. `outages` are measured in a cluster only,
    where one fault comes after the other. `remarks` tell what could not be tried here.
    """

    seed: int
    minutes: float
    took_s: float
    drained_s: float
    repeated_requests: int
    faults: Mapping[str, int]
    figures: Sequence[Figures]
    surprises: Sequence[str]
    outages: Sequence[Outage] = ()
    remarks: Sequence[str] = ()

    @property
    def clean(self) -> bool:
        """Whether every promise is kept."""
        return not self.surprises and all(figures.kept for figures in self.figures)


def to_json(report: Report) -> str:
    """Write the report for programs."""
    document = {
        **asdict(report),
        "clean": report.clean,
        "figures": [
            {**asdict(each), "allowed": sorted(each.allowed), "kept": each.kept}
            for each in report.figures
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def to_text(report: Report) -> str:
    """Write the report for people."""
    faults = ", ".join(f"{count} × {kind}" for kind, count in sorted(report.faults.items()))  # noqa: RUF001
    rows = [HEAD, *(_row(each) for each in report.figures)]
    wrong = [
        f"{figures.name}: {example}" for figures in report.figures for example in figures.examples
    ]
    return "\n".join(
        [
            f"seed {report.seed}, {report.minutes:g} min of faults; all in {report.took_s:.0f} s,"
            f" of which {report.drained_s:.0f} s to deliver what was left",
            f"{sum(report.faults.values())} faults: {faults}",
            f"{report.repeated_requests} publish requests were sent again by the same ids",
            "",
            *aligned(rows, left=2),
            "",
            *_outage_lines(report.outages),
            "Figures in brackets are those that the promise leaves open; all others must be 0.",
            *wrong,
            *report.surprises,
            *report.remarks,
            "All promises are kept." if report.clean else "NOT ALL PROMISES ARE KEPT.",
        ]
    )


def _row(figures: Figures) -> tuple[str, ...]:
    counts = (
        ("({:,})" if name in figures.allowed else "{:,}").format(getattr(figures, name))
        for name in COUNTS
    )
    return (figures.name, figures.promise, f"{figures.expected:,}", f"{figures.came:,}", *counts)


def _outage_lines(outages: Sequence[Outage]) -> list[str]:
    rows = [
        (
            each.name,
            "",
            f"{each.times}",
            f"{each.publish_median_s:.1f}",
            f"{each.publish_max_s:.1f}",
            f"{each.webhook_median_s:.1f}",
            f"{each.webhook_max_s:.1f}",
        )
        for each in outages
    ]
    return [*aligned([OUTAGE_HEAD, *rows], left=2), ""] if rows else []


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Align so many columns left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
