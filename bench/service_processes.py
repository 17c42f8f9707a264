"""The four services as plain processes: the commands of the Procfile, as `make run` starts them."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from honcho.environ import parse_procfile

from bench.server_process import ROOT, ServerProcess, free_port, running

KEPT_VARIABLES = ("HOME", "LANG", "TMPDIR")
# The broker first: the others make their subscriptions with it.
NAMES = ("broker", "order", "shipping", "notification")


@dataclass(frozen=True, slots=True)
class Services:
    """All four, running."""

    broker: ServerProcess
    order: ServerProcess
    shipping: ServerProcess
    notification: ServerProcess


@contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Start them on empty databases; no demo orders, and shipments move on at the next look."""
    ports = {name: free_port() for name in NAMES}
    environ = {
        **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        **{f"{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "BROKER_GRPC_PORT": str(free_port()),
        "DEMO_ORDER_INTERVAL_S": "0",
        "SHIPPING_STEP_S": "0",
        "DATA_DIR": str(folder.absolute()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    commands = parse_procfile((ROOT / "Procfile").read_text()).processes
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(
                running(
                    ["sh", "-c", commands[name]],
                    port=ports[name],
                    ready_path="/readyz",
                    log=folder / f"{name}.log",
                    environ=environ,
                )
            )
            for name in NAMES
        }
        yield Services(**started)
