"""One broker of a cluster, with a line of its own to the NATS servers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import httpx

from audit.faults import Fault, Kind
from audit.slow_disk import SYNCS, slow_disk
from audit.victim import Victim
from broker.partition import HOME
from e2e.process_stack import BIN, KEPT_VARIABLES
from e2e.supervised import Supervised
from support.broker_process import free_port
from support.eventually import eventually
from support.nats_server import NatsServer
from support.tcp_line import Line

LOOK_S = 2.0
OWNED = re.compile(r'^broker_cell_owned\{cell="(\d+)"\} 1', re.MULTILINE)


class Node:
    """One broker: supervised, and connected to the NATS servers by a line that can be cut."""

    def __init__(
        self, name: str, folder: Path, servers: Sequence[NatsServer], store: str, cells: int
    ) -> None:
        self.name = name
        self.base_url = f"http://127.0.0.1:{(port := free_port())}"
        parts = [folder / name, *(folder / name / f"cell-{cell}" for cell in range(1, cells))]
        self.copies = [part / "replica.db" for part in parts]
        self._line = Line([server.port for server in servers])
        addresses = ",".join(f"127.0.0.1:{each}" for each in self._line.ports)
        self._environment = {
            **{each: os.environ[each] for each in KEPT_VARIABLES if each in os.environ},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "BROKER_STORE": f"nats://{addresses}/{store}?cells={cells}",
            "BROKER_REPLICA": str(folder / name),
            "BROKER_NODE_URL": self.base_url,
            "BROKER_PUBLIC_URL": self.base_url,
            "BROKER_HOST": "127.0.0.1",
            "BROKER_PORT": str(port),
            "BROKER_GRPC_PORT": str(free_port()),
            "BROKER_ALLOWED_TARGETS": "127.0.0.0/8",
        }
        self._supervised = Supervised(name, "exec broker serve", folder / f"{name}.log")
        self._victim = Victim(self._supervised, self._environment)

    def __str__(self) -> str:
        return self.name

    def start(self) -> None:
        """Start it and do not wait."""
        self._supervised.start(self._environment)

    def stop(self) -> None:
        """Stop it in good order. Raises TimeoutError."""
        self._supervised.stop()

    def close(self) -> None:
        """Leave nothing of it behind."""
        self._supervised.close()
        self._line.close()

    def owned(self) -> frozenset[int] | None:
        """Return which cells it owns, or None while it is not ready."""
        try:
            answer = self._get("/readyz")
            if answer.status_code != 200:
                return None
            if answer.json()["status"] == "standby":
                return frozenset()
            if len(self.copies) == 1:  # its metrics are the owner's
                return frozenset({HOME})
            metrics = self._get("/metrics").text
        except httpx.TransportError:
            return None
        return frozenset(int(cell) for cell in OWNED.findall(metrics))

    def handed_over(self) -> int:
        """Count how often it has let a cell go in good order."""
        return self._supervised.log().count('"action": "hand_over"')

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.base_url}{path}", trust_env=False, timeout=LOOK_S)

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; what lasts is cut short by `hurry`."""
        match fault.kind:
            case Kind.CUT_OFF:
                self._line.cut()
            case Kind.STALL:
                self._line.hold()
            case Kind.DEAFEN:
                self._line.hold(answers_only=True)
            case Kind.SLOW_DISK:
                self._slow_down_disk(fault, hurry)
                return
            case _:
                self._victim.suffer(fault, hurry)
                return
        try:
            hurry.wait(fault.for_s)
        finally:
            self._line.mend()

    def _slow_down_disk(self, fault: Fault, hurry: Event) -> None:
        # Once it has processes: those of a broker that lost its store are new.
        members = eventually(self._supervised.members)
        with slow_disk([each.pid for each in members], SYNCS, fault.late_s):
            hurry.wait(fault.for_s)
