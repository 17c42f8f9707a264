"""One run of the audit: load, storm, healing, drain, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path

from audit.fault_log import FaultLog
from audit.figures import Figures, of_log, of_subscription, together
from audit.ledger import Ledger
from audit.outages import outages
from audit.publisher import REST_S, Publisher
from audit.pulse import Pulse
from audit.report import Report
from audit.subject import Subject
from audit.subscriptions import AUDITED
from audit.webhooks import Webhooks
from support.api import Api, good

PUBLISHERS = 2  # of each topic
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
        for topic, (name, audited) in product(subject.topics, AUDITED.items()):
            fields = audited.fields(webhooks.base_url, topic, seed)
            good(api.put_subscription(topic, name, **fields))

        tell(f"faults for {minutes:g} min; each is written to {folder / FAULT_LOG}")
        publishers = publishers_of(subject, seed)
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
        owed = drained(api, subject.topics, tell)
        if owed:
            log.surprise(f"after {STALL_S:g} s without progress, {owed} deliveries are still owed")
        drained_s = log.elapsed_s() - healed_s
        figures = [
            *audit_figures(publishers, webhooks.ledger, api, subject.topics),
            *subject.figures(log),
        ]
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


def publishers_of(subject: Subject, seed: int) -> list[Publisher]:
    """Make several for each topic, of which each begins with another broker.

    However many topics there are, they publish about as much together.
    """
    topics, urls = subject.topics, subject.broker_urls
    rest_s = REST_S * len(topics)
    return [
        Publisher(
            f"p{n}",
            topics[n % len(topics)],
            in_turn(urls, n + n // len(topics)),
            seed,
            subject.answer_s,
            rest_s,
        )
        for n in range(max(PUBLISHERS * len(topics), len(urls)))
    ]


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


def drained(api: Api, topics: Sequence[str], tell: Tell) -> int:
    """Wait until nothing is owed or delayed, as long as it becomes less; give what still is."""
    least, deadline = None, time.monotonic() + STALL_S
    while time.monotonic() < deadline:
        owed = sum(owed_in(api, topic) for topic in topics)
        if owed == 0:
            return 0
        if least is None or owed < least:
            least, deadline = owed, time.monotonic() + STALL_S
            tell(f"{owed:,} deliveries are owed")
        time.sleep(LOOK_S)
    return least or 0


def owed_in(api: Api, topic: str) -> int:
    """Count what is delayed in a topic, and what its subscriptions are owed or have out."""
    shown = [api.ok_status(topic, name) for name in AUDITED]
    owed = sum(int(each["backlog"]) + int(each["in_flight"]) for each in shown)
    return len(api.scheduled(topic)) + owed


def audit_figures(
    publishers: Sequence[Publisher], ledger: Ledger, api: Api, topics: Sequence[str]
) -> list[Figures]:
    """Count what became of the audit's own messages in all topics, promise by promise."""
    each = [
        topic_figures(
            topic, [publisher for publisher in publishers if publisher.topic == topic], ledger, api
        )
        for topic in topics
    ]
    return [together(of_one) for of_one in zip(*each, strict=True)]


def topic_figures(
    topic: str, publishers: Sequence[Publisher], ledger: Ledger, api: Api
) -> list[Figures]:
    """Count what became of one topic's messages, promise by promise."""
    receipts = [receipt for publisher in publishers for receipt in publisher.receipts]
    log = [(int(each["sequence"]), str(each["id"])) for each in api.all_messages(topic, limit=PAGE)]
    stored = [id for _, id in log]
    return [
        of_log(receipts, log),
        *(
            of_subscription(
                audited,
                {*stored, *(receipt.id for receipt in receipts)},
                ledger.arrivals(topic, name),
                ledger.effects(topic, name),
            )
            for name, audited in AUDITED.items()
        ),
    ]
