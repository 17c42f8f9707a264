"""The `broker` command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.broker_process import BROKER


def run_broker(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("BROKER_")
    }
    return subprocess.run(
        [BROKER, *arguments],
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
