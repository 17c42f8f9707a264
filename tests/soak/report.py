"""What a run has found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from audit.report import aligned
from soak.count import Count
from soak.judgement import MIB, Growth

BYTES = frozenset({"pss", "rss", "file", "wal"})
NAMES = {
    "pss": "memory (PSS), MiB",
    "rss": "memory (RSS), MiB",
    "descriptors": "descriptors",
    "threads": "threads",
    "file": "data file, MiB",
    "wal": "write-ahead log, MiB",
}


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run has found. `cpu_share` is in cores, `rate` and `achieved` a second."""

    minutes: float
    rate: float
    achieved: float
    cores: int
    cpu_share: float
    repeated_requests: int
    growths: Sequence[Growth]
    counts: Sequence[Count]
    surprises: Sequence[str]

    @property
    def clean(self) -> bool:
        """Whether nothing grows and nothing is lost."""
        flat = all(growth.flat for growth in self.growths)
        return flat and all(count.kept for count in self.counts) and not self.surprises


def to_json(report: Report) -> str:
    """Write the report for programs."""
    return json.dumps({**asdict(report), "clean": report.clean}, indent=2) + "\n"


def to_text(report: Report) -> str:
    """Write the report for people."""
    grown = [("second half", "median", "highest", "grew by", "allowed", "")]
    grown += [_growth_row(growth) for growth in report.growths]
    came = [("messages", "expected", "came", "again", "")]
    came += [_count_row(count) for count in report.counts]
    return "\n".join(
        [
            f"{report.minutes:g} min, {report.achieved:,.0f} messages/s published of"
            f" {report.rate:,.0f} wanted; the broker used {report.cpu_share:.2f} of"
            f" {report.cores} cores; {report.repeated_requests} requests were repeated",
            "",
            *(aligned(grown, left=1) if report.growths else ["too short to judge what grows"]),
            "",
            *aligned(came, left=1),
            "",
            *report.surprises,
            "Nothing grows, nothing is lost." if report.clean else "NOT ALL IS WELL.",
        ]
    )


def _growth_row(growth: Growth) -> tuple[str, ...]:
    unit = MIB if growth.measure in BYTES else 1
    sizes = (growth.level, growth.highest, growth.grew, growth.allowed)
    told = "" if growth.flat else "GROWS"
    return (NAMES[growth.measure], *(f"{size / unit:,.1f}" for size in sizes), told)


def _count_row(count: Count) -> tuple[str, ...]:
    told = "" if count.kept else "WRONG"
    return (count.name, f"{count.expected:,}", f"{count.came:,}", f"{count.again:,}", told)
