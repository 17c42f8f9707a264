"""One run of the audit: load, storm, healing, drain, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from audit.fault_log import FaultLog
from audit.figures import Figures, of_log, of_subscription
from audit.ledger import Ledger
from audit.outages import outages
from audit.publisher import Publisher
from audit.pulse import Pulse
from audit.report import Report
from audit.subject import Subject
from audit.subscriptions import AUDITED, TOPIC
from audit.webhooks import Webhooks
from support.api import Api, good

PUBLISHERS = 2
TELL_EVERY_S = 5.0
LOOK_S = 0.5
STALL_S = 120.0  # longer than a circuit rests between two probes
PAGE = 1000
FAULT_LOG = "faults.log"

Tell = Callable[[str], None]


def run(
    new_subject: Callable[[int, Path], Subject],
    seed: int,
    minutes: float,
    folder: Path,
    tell: Tell,
) -> Report:
    """Run a subject in `folder` through a storm, and count; `tell` hears of the progress.

    Raises AssertionError if it does not start, or does not come back afterwards.
    """
    log = FaultLog(folder / FAULT_LOG, tell)
    with ExitStack() as context:
        subject = context.enter_context(closing(new_subject(seed, folder)))
        webhooks = context.enter_context(closing(Webhooks(seed, folder)))
        webhooks.start()
        subject.start()
        api = context.enter_context(Api(subject.broker_urls[0]))
        for name, audited in AUDITED.items():
            good(api.put_subscription(TOPIC, name, **audited.fields(webhooks.base_url, seed)))

        tell(f"faults for {minutes:g} min; each is written to {folder / FAULT_LOG}")
        publishers = [
            Publisher(f"p{n}", in_turn(subject.broker_urls, n), seed, subject.answer_s)
            for n in range(max(PUBLISHERS, len(subject.broker_urls)))
        ]
        pulse = Pulse(publishers, webhooks.ledger)
        for publisher in publishers:
            publisher.start()
        try:
            with subject.storm(minutes * 60, webhooks, pulse, log):
                watch(
                    minutes * 60,
                    lambda: progress(log, publishers, webhooks.ledger) + subject.progress(),
                    tell,
                )
            tell("the faults are over; delivering what is left")
        finally:
            for publisher in publishers:
                publisher.stop()

        healed_s = log.elapsed_s()
        subject.recover(log)
        owed = drained(api, tell)
        if owed:
            log.surprise(f"after {STALL_S:g} s without progress, {owed} deliveries are still owed")
        drained_s = log.elapsed_s() - healed_s
        figures = [*audit_figures(publishers, webhooks.ledger, api), *subject.figures(log)]
        subject.check(log)
        surprises = [
            *log.surprises,
            *(line for publisher in publishers for line in publisher.surprises),
            *webhooks.ledger.complaints(),
        ]
        return Report(
            seed,
            minutes,
            log.elapsed_s(),
            drained_s,
            sum(publisher.repeats for publisher in publishers),
            dict(log.counts),
            figures,
            surprises,
            outages(log.strikes),
            log.remarks,
        )


def in_turn(urls: Sequence[str], first: int) -> Sequence[str]:
    """Turn a list round, so that each publisher begins with another broker."""
    at = first % len(urls)
    return (*urls[at:], *urls[:at])


def watch(for_s: float, look: Callable[[], str], tell: Tell) -> None:
    """Tell how things stand every few seconds, for so long."""
    deadline = time.monotonic() + for_s
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(left_s, TELL_EVERY_S))
        tell(look())


def progress(log: FaultLog, publishers: Sequence[Publisher], ledger: Ledger) -> str:
    """Say in a line how far things have come."""
    published = sum(len(publisher.receipts) for publisher in publishers)
    return (
        f"{log.elapsed_s():5.0f} s: {log.counts.total()} faults, {published:,} published,"
        f" {ledger.arrival_count():,} deliveries"
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


def audit_figures(publishers: Sequence[Publisher], ledger: Ledger, api: Api) -> list[Figures]:
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
