"""The stack as plain processes: the commands of the Procfile, as `make run` starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from honcho.environ import parse_procfile

from e2e.stack import DEFAULTS, ROOT, Service, wait_until_ready
from e2e.supervised import Supervised
from support.broker_process import free_port

BIN = Path(sys.executable).parent
KEPT_VARIABLES = ("HOME", "LANG", "TMPDIR")


class ProcessStack:
    """A `Stack` of four supervised process groups, with data and logs in `folder`.

    Each is one of `supervised`, started with `environment`.
    """

    name = "processes"

    def __init__(self, folder: Path) -> None:
        ports = {service: free_port() for service in Service}
        self.urls: Mapping[Service, str] = {
            service: f"http://127.0.0.1:{port}" for service, port in ports.items()
        }
        self.environment = {
            **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            **DEFAULTS,
            **{service.port_variable: str(port) for service, port in ports.items()},
            "BROKER_GRPC_PORT": str(free_port()),
            "DATA_DIR": str(folder),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        commands = parse_procfile((ROOT / "Procfile").read_text()).processes
        self.supervised = {
            service: Supervised(
                service, commands[service.removesuffix("-service")], folder / f"{service}.log"
            )
            for service in Service
        }

    def start(self) -> None:
        """Start what does not run, and wait until all are ready."""
        for supervised in self.supervised.values():
            supervised.start(self.environment)
        wait_until_ready(self)

    def stop(self) -> None:
        """Stop all in good order, the broker last as compose does; their data stays."""
        callers = [self.supervised[each] for each in Service if each is not Service.BROKER]
        with ThreadPoolExecutor(len(callers)) as pool:
            list(pool.map(Supervised.stop, callers))
        self.supervised[Service.BROKER].stop()

    def close(self) -> None:
        """Kill what runs."""
        for supervised in self.supervised.values():
            supervised.close()

    def kill(self, service: Service) -> None:
        """Kill -9 the process group of a service, as soon as it has one."""
        self.supervised[service].kill()

    def restart(self, service: Service, **settings: str) -> None:
        """Stop a service in good order, and start it with other settings until further notice."""
        self.environment |= settings
        self.supervised[service].stop()
        self.supervised[service].start(self.environment)
        wait_until_ready(self, service)

    def logs(self, service: Service) -> str:
        """What a service has printed over all its starts."""
        return self.supervised[service].log()
