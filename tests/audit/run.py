"""One run of the audit: load, storm, healing, drain, count."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from audit.fault_log import FaultLog
from audit.faults import OPERATOR, RECEIVER, plan
from audit.figures import Figures, of_log, of_services, of_subscription
from audit.ledger import Ledger
from audit.moods import MoodFile
from audit.operations import Operator
from audit.publisher import Publisher
from audit.receiver import LEDGER, MOODS
from audit.report import Report
from audit.storm import Storm
from audit.subscriptions import AUDITED, TOPIC
from audit.victim import Sufferer, Victim
from e2e.crowd import Crowd
from e2e.process_stack import ProcessStack
from e2e.shop import Shop
from e2e.stack import ROOT, Service, wait_until_ready
from e2e.supervised import Supervised
from support.api import Api, good
from support.broker_process import free_port
from support.command import run_broker

PUBLISHERS = 2
CUSTOMERS_REST_S = 0.4
TELL_EVERY_S = 5.0
LOOK_S = 0.5
STALL_S = 120.0  # longer than a circuit rests between two probes
PAGE = 1000
FAULT_LOG = "faults.log"

Tell = Callable[[str], None]


def run(seed: int, minutes: float, folder: Path, tell: Tell) -> Report:
    """Run the stack in `folder` through a storm, and count; `tell` hears of the progress.

    Raises AssertionError if the stack does not start, or does not come back afterwards.
    """
    log = FaultLog(folder / FAULT_LOG)
    with ExitStack() as context:
        audit = context.enter_context(running(seed, folder))
        shop = context.enter_context(closing(Shop(audit.stack)))
        api = context.enter_context(Api(audit.stack.urls[Service.BROKER]))
        shop.retry_soon()
        for name, audited in AUDITED.items():
            good(api.put_subscription(TOPIC, name, **audited.fields(audit.receiver_url, seed)))

        tell(f"faults for {minutes:g} min; each is written to {folder / FAULT_LOG}")
        publishers = [Publisher(f"p{n}", api.base_url, seed) for n in range(PUBLISHERS)]
        for publisher in publishers:
            publisher.start()
        try:
            with (
                Crowd(audit.stack, pause_s=CUSTOMERS_REST_S) as crowd,
                Storm(plan(seed, minutes * 60), audit.victims(), audit.moods, log),
            ):
                watch(minutes * 60, lambda: progress(log, publishers, crowd, audit.ledger), tell)
            tell("the faults are over; delivering what is left")
        finally:
            for publisher in publishers:
                publisher.stop()

        healed_s = log.elapsed_s()
        wait_until_ready(audit.stack)
        try:
            crowd.wait_for(0)  # raises what ended a customer early
        except RuntimeError as error:
            log.surprise(f"an order was answered {error}")
        owed = drained(api, tell)
        if owed:
            log.surprise(f"after {STALL_S:g} s without progress, {owed} deliveries are still owed")
        drained_s = log.elapsed_s() - healed_s
        figures = [
            *audit_figures(publishers, audit.ledger, api),
            *service_figures(crowd, shop, log),
        ]
        checked(audit.stack, folder, log)
        surprises = [
            *log.surprises,
            *(line for publisher in publishers for line in publisher.surprises),
            *audit.ledger.complaints(),
        ]
        repeats = sum(publisher.repeats for publisher in publishers)
        return Report(
            seed, minutes, log.elapsed_s(), drained_s, repeats, dict(log.counts), figures, surprises
        )


class Audit:
    """The stack and the receiver beside it, in one folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.stack = ProcessStack(folder)
        self.moods = MoodFile(folder / MOODS)
        self.moods.write({})
        self.ledger = Ledger(folder / LEDGER)
        port = free_port()
        self.receiver_url = f"http://127.0.0.1:{port}"
        command = f"exec {sys.executable} -P -m audit.receiver"
        self.receiver = Supervised(
            RECEIVER,
            f"{command} --port {port} --folder '{folder}' --seed {seed}",
            folder / f"{RECEIVER}.log",
        )
        self.receiver_environment = {"PYTHONPATH": str(ROOT / "tests")}
        self.operator = Operator(self.stack.urls[Service.BROKER], seed)

    def victims(self) -> Mapping[str, Sufferer]:
        """Name all to whom something can be done."""
        services = {
            str(service): Victim(supervised, self.stack.environment)
            for service, supervised in self.stack.supervised.items()
        }
        receiver = Victim(self.receiver, self.receiver_environment)
        return {**services, RECEIVER: receiver, OPERATOR: self.operator}

    def start(self) -> None:
        """Start everything, and wait until it is ready."""
        self.receiver.start(self.receiver_environment)
        self.stack.start()

    def close(self) -> None:
        """Leave no process behind."""
        self.receiver.close()
        self.stack.close()
        self.operator.close()
        self.ledger.close()


@contextmanager
def running(seed: int, folder: Path) -> Iterator[Audit]:
    """Run the stack, and leave nothing of it running."""
    with closing(Audit(seed, folder)) as audit:
        audit.start()
        yield audit


def watch(for_s: float, look: Callable[[], str], tell: Tell) -> None:
    """Tell how things stand every few seconds, for so long."""
    deadline = time.monotonic() + for_s
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(left_s, TELL_EVERY_S))
        tell(look())


def progress(log: FaultLog, publishers: list[Publisher], crowd: Crowd, ledger: Ledger) -> str:
    """Say in a line how far things have come."""
    published = sum(len(publisher.receipts) for publisher in publishers)
    return (
        f"{log.elapsed_s():5.0f} s: {log.counts.total()} faults, {published:,} published,"
        f" {ledger.arrival_count():,} deliveries, {len(crowd.answered):,} orders"
    )


def drained(api: Api, tell: Tell) -> int:
    """Wait until nothing is owed or delayed, as long as it becomes less; give what still is."""
    least, deadline = None, time.monotonic() + STALL_S
    while time.monotonic() < deadline:
        owed = len(api.scheduled(TOPIC)) + sum(owed_to(api, name) for name in AUDITED)
        if owed == 0:
            return 0
        if least is None or owed < least:
            least, deadline = owed, time.monotonic() + STALL_S
            tell(f"{owed:,} deliveries are owed")
        time.sleep(LOOK_S)
    return least or 0


def owed_to(api: Api, name: str) -> int:
    """Count what a subscription is owed, or has out."""
    shown = api.ok_status(TOPIC, name)
    return int(shown["backlog"]) + int(shown["in_flight"])


def checked(stack: ProcessStack, folder: Path, log: FaultLog) -> None:
    """Stop the stack in good order, and have the broker's own check look at what it leaves."""
    try:
        stack.stop()
    except TimeoutError as error:
        log.surprise(f"{error}")
    found = run_broker("check", folder / "broker.db")
    if found.returncode != 0:
        log.surprise(f"broker check: {found.stdout}{found.stderr}")


def audit_figures(publishers: list[Publisher], ledger: Ledger, api: Api) -> list[Figures]:
    """Count what became of the audit's own messages."""
    receipts = [receipt for publisher in publishers for receipt in publisher.receipts]
    log = [(int(each["sequence"]), str(each["id"])) for each in api.all_messages(TOPIC, limit=PAGE)]
    stored = [id for _, id in log]
    return [
        of_log(receipts, log),
        *(
            of_subscription(
                audited,
                {*stored, *(receipt.id for receipt in receipts)},
                ledger.arrivals(name),
                ledger.effects(name),
            )
            for name, audited in AUDITED.items()
        ),
    ]


def service_figures(crowd: Crowd, shop: Shop, log: FaultLog) -> list[Figures]:
    """Count what became of the orders, once their stories are told."""
    try:
        census = shop.census()
    except AssertionError as error:
        log.surprise(f"the orders' stories are not told to their end: {error}")
        return []
    figures = of_services(crowd.answered, census)
    faults = census.faults(crowd.answered)
    if faults and all(each.kept for each in figures):
        log.surprise(f"the services disagree: {faults[:5]}")
    return figures
