"""Run wrk, the loader, and read what it says."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("publish.lua")
# Longer than any pause under test: wrk only counts what passes it, it does not give up.
TIMEOUT_S = 30
OUTCOME = re.compile(r"^outcome (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk sends, and how hard: closed loop, one request after the other on each connection.

    Requests rotate over `variants`: `{n}` in the URL or a header is the number of one, from 1 on.
    Where ids are scattered, the numbers in them come in no order. Where there are `others`, each of
    these URLs is sent the same at the same time, on as many connections.
    """

    url: str
    content_type: str
    body: Path
    connections: int
    seconds: float
    variants: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    scattered_ids: bool = False
    others: tuple[str, ...] = ()

    @property
    def unanswered(self) -> int:
        """Count the requests that may be under way when the time is over."""
        return self.connections * (1 + len(self.others))


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """How the requests ended: the answered include the refused (4xx, 5xx)."""

    seconds: float
    answered: int
    refused: int
    broken: int

    @property
    def accepted(self) -> int:
        """Count the requests that were answered with success."""
        return self.answered - self.refused

    @property
    def errors(self) -> int:
        """Count the requests that were refused, cut off, or not answered within TIMEOUT_S."""
        return self.refused + self.broken


def wrk_command(load: Load) -> list[str]:
    """Build the command line."""
    return [
        "wrk",
        "--threads=1",
        f"--connections={load.connections}",
        f"--duration={round(load.seconds)}s",
        f"--timeout={TIMEOUT_S}s",
        f"--script={SCRIPT}",
        load.url,
        "--",
        load.content_type,
        str(load.body),
        str(load.variants),
        "scattered" if load.scattered_ids else "ordered",
        *(f"{name}: {value}" for name, value in load.headers.items()),
    ]


def run_wrk(load: Load) -> LoadOutcome:
    """Load the server, or several, for the given time."""
    loads = [load, *(replace(load, url=url) for url in load.others)]
    with ThreadPoolExecutor(len(loads)) as threads:
        return total(list(threads.map(_run_one, loads)))


def _run_one(load: Load) -> LoadOutcome:
    done = subprocess.run(wrk_command(load), capture_output=True, text=True, check=True)
    return parse_outcome(done.stdout)


def total(outcomes: Sequence[LoadOutcome]) -> LoadOutcome:
    """Sum up what ran at the same time."""
    return LoadOutcome(
        max(each.seconds for each in outcomes),
        sum(each.answered for each in outcomes),
        sum(each.refused for each in outcomes),
        sum(each.broken for each in outcomes),
    )


def parse_outcome(output: str) -> LoadOutcome:
    """Find the line that publish.lua prints in the output of wrk. Raises ValueError if none is."""
    found = OUTCOME.search(output)
    if found is None:
        raise ValueError(f"wrk printed no outcome: {output!r}")
    return msgspec.json.decode(found[1], type=LoadOutcome)
