"""The four services as they run together, wherever that is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

import httpx

from support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
DEFAULTS = {"DEMO_ORDER_INTERVAL_S": "0", "SHIPPING_STEP_S": "0.2"}


class Service(StrEnum):
    """One of the four, by its name in docker-compose.yml."""

    BROKER = "broker"
    ORDERS = "order-service"
    SHIPPING = "shipping-service"
    NOTIFICATIONS = "notification-service"

    @property
    def port_variable(self) -> str:
        """The variable that sets its port, for compose and Procfile alike."""
        return f"{self.removesuffix('-service').upper()}_PORT"


class Stack(Protocol):
    """The four services with data of their own, at ports that stay theirs.

    A service that dies is started again by whatever runs the stack, not by the test.
    """

    @property
    def name(self) -> str:
        """`processes` or `compose`."""

    @property
    def urls(self) -> Mapping[Service, str]:
        """Where each service listens."""

    def start(self) -> None:
        """Start what does not run, and wait until all are ready."""

    def stop(self) -> None:
        """Stop all in good order; their data stays."""

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""

    def kill(self, service: Service) -> None:
        """Kill -9 all processes of a service, as soon as it has some; return once they are dead."""

    def restart(self, service: Service, **settings: str) -> None:
        """Stop a service in good order, and start it with other settings until further notice."""

    def logs(self, service: Service) -> str:
        """What a service has printed, in this container or these processes."""


def wait_until_ready(stack: Stack, *services: Service) -> None:
    """Wait until services can work; all of them, unless some are named."""
    for service in services or Service:
        eventually(partial(is_ready, stack.urls[service]), within_s=READY_S)


def is_ready(url: str) -> bool:
    """Ask `/readyz`."""
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
