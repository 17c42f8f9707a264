"""The stack of one broker and three services, its customers and its operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from audit.fault_log import FaultLog
from audit.faults import OPERATOR, RECEIVER, plan
from audit.figures import Figures, of_services
from audit.operations import Operator
from audit.publisher import ANSWER_S
from audit.pulse import Pulse
from audit.storm import Storm
from audit.subscriptions import TOPIC
from audit.victim import Sufferer, Victim
from audit.webhooks import Webhooks
from e2e.crowd import Crowd
from e2e.process_stack import ProcessStack
from e2e.shop import Shop
from e2e.stack import Service, wait_until_ready
from support.command import run_broker

CUSTOMERS_REST_S = 0.4


class Services:
    """Implements audit.subject.Subject."""

    answer_s = ANSWER_S

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        self._stack = ProcessStack(folder)
        self._shop = Shop(self._stack)
        self._operator = Operator(self._stack.urls[Service.BROKER], seed)
        self._crowd = Crowd(self._stack, pause_s=CUSTOMERS_REST_S)

    @property
    def broker_urls(self) -> Sequence[str]:
        return (self._stack.urls[Service.BROKER],)

    @property
    def topics(self) -> Sequence[str]:
        return (TOPIC,)

    def start(self) -> None:
        self._stack.start()
        self._shop.retry_soon()

    def close(self) -> None:
        self._stack.close()
        self._operator.close()
        self._shop.close()

    @contextmanager
    def storm(
        self, seconds: float, webhooks: Webhooks, pulse: Pulse, log: FaultLog
    ) -> Iterator[None]:
        faults = plan(self._seed, seconds)
        with self._crowd, Storm(faults, self._victims(webhooks), webhooks.moods, log):
            yield

    def _victims(self, webhooks: Webhooks) -> Mapping[str, Sufferer]:
        services = {
            str(service): Victim(supervised, self._stack.environment)
            for service, supervised in self._stack.supervised.items()
        }
        return {**services, RECEIVER: webhooks.victim(), OPERATOR: self._operator}

    def progress(self) -> str:
        return f", {len(self._crowd.answered):,} orders"

    def recover(self, log: FaultLog) -> None:
        wait_until_ready(self._stack)
        try:
            self._crowd.wait_for(0)  # raises what ended a customer early
        except RuntimeError as error:
            log.surprise(f"an order was answered {error}")

    def figures(self, log: FaultLog) -> Sequence[Figures]:
        """Count what became of the orders, once their stories are told."""
        try:
            census = self._shop.census()
        except AssertionError as error:
            log.surprise(f"the orders' stories are not told to their end: {error}")
            return []
        figures = of_services(self._crowd.answered, census)
        faults = census.faults(self._crowd.answered)
        if faults and all(each.kept for each in figures):
            log.surprise(f"the services disagree: {faults[:5]}")
        return figures

    def check(self, log: FaultLog) -> None:
        """Stop the stack in good order, and have the broker's own check look at what it leaves."""
        try:
            self._stack.stop()
        except TimeoutError as error:
            log.surprise(f"{error}")
        found = run_broker("check", self._folder / "broker.db")
        if found.returncode != 0:
            log.surprise(f"broker check: {found.stdout}{found.stderr}")
