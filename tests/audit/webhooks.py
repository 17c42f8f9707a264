"""The receiver of the webhooks, with its ledger and its moods, as a run has it."""

from __future__ import annotations

import sys
from pathlib import Path

from audit.faults import RECEIVER
from audit.ledger import Ledger
from audit.moods import MoodFile
from audit.receiver import LEDGER, MOODS
from audit.victim import Victim
from e2e.stack import ROOT
from e2e.supervised import Supervised
from support.broker_process import free_port


class Webhooks:
    """A receiver that is started again whenever it ends, in one folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.moods = MoodFile(folder / MOODS)
        self.moods.write({})
        self.ledger = Ledger(folder / LEDGER)
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        command = f"exec {sys.executable} -P -m audit.receiver"
        self._receiver = Supervised(
            RECEIVER,
            f"{command} --port {port} --folder '{folder}' --seed {seed}",
            folder / f"{RECEIVER}.log",
        )
        self._environment = {"PYTHONPATH": str(ROOT / "tests")}

    def victim(self) -> Victim:
        """Return the one to whom something can be done."""
        return Victim(self._receiver, self._environment)

    def start(self) -> None:
        """Start it."""
        self._receiver.start(self._environment)

    def close(self) -> None:
        """Leave no process behind."""
        self._receiver.close()
        self.ledger.close()
