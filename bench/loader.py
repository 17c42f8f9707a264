"""Run wrk, the loader, and read what it says."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    Where ids are scattered, the numbers in them come in no order.
    """

    url: str
    content_type: str
    body: Path
    connections: int
    seconds: float
    variants: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    scattered_ids: bool = False


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
    """Load the server for the given time."""
    done = subprocess.run(wrk_command(load), capture_output=True, text=True, check=True)
    return parse_outcome(done.stdout)


def parse_outcome(output: str) -> LoadOutcome:
    """Find the line that publish.lua prints in the output of wrk. Raises ValueError if none is."""
    found = OUTCOME.search(output)
    if found is None:
        raise ValueError(f"wrk printed no outcome: {output!r}")
    return msgspec.json.decode(found[1], type=LoadOutcome)
