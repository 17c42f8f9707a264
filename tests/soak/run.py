"""One run of the soak: find what the machine takes, load it with half of that, watch, count."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from soak.count import counts
from soak.judgement import growths
from soak.kinds import KINDS, STREAM, TOPIC, TOPIC_CONFIG
from soak.publisher import Publisher
from soak.readers import Puller, Watcher
from soak.receiver import COUNTS
from soak.report import Report
from soak.samples import Sample, Sampler
from support.api import Api, accepted, good
from support.broker_process import ROOT, BrokerProcess, free_port
from support.eventually import eventually

FIND_S = 30.0
MOST_OWED = 5_000
"""While more than this is owed to any subscription, the machine takes no more."""
LOOK_S = 0.5
SAMPLES = 360
STALL_S = 60.0
MIB = 1024 * 1024

Tell = Callable[[str], None]


def run(minutes: float, rate: float | None, folder: Path, tell: Tell) -> Report:
    """Run a broker in `folder` for so long, under `rate` messages a second; then count.

    Without a rate it is half of what the machine takes, with everything that watches it.
    """
    with ExitStack() as context:
        receiver_url = context.enter_context(receiving(folder))
        broker = BrokerProcess(folder)
        context.callback(broker.close)
        api = broker.start().api
        accepted(api.put_topic(TOPIC, **TOPIC_CONFIG))
        nowhere = f"http://127.0.0.1:{free_port()}"
        for kind in KINDS:
            accepted(api.put_subscription(TOPIC, kind.name, **kind.body(receiver_url, nowhere)))

        publisher = Publisher(broker.base_url, rate, Pressure(broker.base_url).high)
        readers = {
            "pull": Puller("pull", broker.base_url),
            STREAM: Watcher(STREAM, broker.base_url),
        }
        sampler = Sampler(
            broker.process.pid,
            folder / "broker.db",
            max(minutes * 60 / SAMPLES, LOOK_S),
            lambda sample: tell(line(sample, publisher.published)),
        )
        for reader in readers.values():
            reader.start()
        publisher.start()
        try:
            if rate is None:
                publisher.rate = find_rate(publisher, tell)
            began, before = time.monotonic(), publisher.published
            sampler.start()
            time.sleep(minutes * 60)
            lasted_s, after = time.monotonic() - began, publisher.published
        finally:
            sampler.stop()
            publisher.stop()

        owed = drained(api, tell)
        last = int(good(api.get_topic(TOPIC))["last_sequence"])
        watcher = readers[STREAM].arrivals
        caught_up(lambda: watcher.distinct >= last)
        for reader in readers.values():
            reader.stop()
        came = httpx.get(receiver_url + COUNTS, trust_env=False).raise_for_status().json()
        came |= {
            name: {"distinct": reader.arrivals.distinct, "again": reader.arrivals.again}
            for name, reader in readers.items()
        }
        surprises = [
            *publisher.surprises,
            *(f"{name}: {told}" for name, reader in readers.items() for told in reader.complaints),
            *([f"{owed} deliveries are still owed"] if owed else []),
            *errors_in(broker.log()),
        ]
        return Report(
            minutes=minutes,
            rate=publisher.rate or 0.0,
            achieved=(after - before) / lasted_s,
            cores=os.cpu_count() or 1,
            cpu_share=_cpu_share(sampler.samples),
            repeated_requests=publisher.repeats,
            growths=growths(sampler.samples),
            counts=counts(publisher.published, publisher.even, last, came),
            surprises=surprises,
        )


@contextmanager
def receiving(folder: Path) -> Iterator[str]:
    """Run the endpoints in a process of their own; give their base URL."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "soak.receiver", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            base_url = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(base_url + COUNTS))
            yield base_url
        finally:
            process.terminate()
            process.wait()


def find_rate(publisher: Publisher, tell: Tell) -> float:
    """Publish as fast as everything keeps up with, and return half of that."""
    tell(f"finding what the machine takes, {FIND_S:g} s")
    publisher.rate = None
    time.sleep(FIND_S / 3)
    before, began = publisher.published, time.monotonic()
    time.sleep(FIND_S)
    found = (publisher.published - before) / (time.monotonic() - began)
    tell(f"it takes {found:,.0f} messages/s; half of that is published from now on")
    return max(found / 2, 1.0)


class Pressure:
    """Whether somebody falls behind, asked now and then."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._asked_at = float("-inf")
        self._high = False

    def high(self) -> bool:
        """Say whether a subscription is owed too much, other than the dead one."""
        now = time.monotonic()
        if now - self._asked_at > LOOK_S:
            with Api(self._base_url) as api:
                shown = good(api.list_subscriptions(TOPIC))["subscriptions"]
            dead = {kind.name for kind in KINDS if kind.dead}
            owed = max(int(each["backlog"]) for each in shown if each["name"] not in dead)
            self._asked_at, self._high = time.monotonic(), owed > MOST_OWED
        return self._high


def drained(api: Api, tell: Tell) -> int:
    """Wait until nothing is owed or delayed, as long as it becomes less; give what still is."""
    least, deadline = None, time.monotonic() + STALL_S
    while time.monotonic() < deadline:
        owed = len(api.scheduled(TOPIC)) + sum(
            int(shown["backlog"]) + int(shown["in_flight"])
            for kind in KINDS
            if not kind.dead
            for shown in [api.ok_status(TOPIC, kind.name)]
        )
        if owed == 0:
            return 0
        if least is None or owed < least:
            least, deadline = owed, time.monotonic() + STALL_S
            tell(f"{owed:,} deliveries are owed")
        time.sleep(LOOK_S)
    return least or 0


def caught_up(done: Callable[[], bool]) -> None:
    """Wait until it is so, or for long enough: the count tells what is missing."""
    deadline = time.monotonic() + STALL_S
    while not done() and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def errors_in(log: str) -> list[str]:
    """Find what the broker itself calls a fault of its own."""
    return [
        told
        for told in log.splitlines()
        if '"level": "error"' in told or '"level": "critical"' in told
    ][:10]


def line(sample: Sample, published: int) -> str:
    """Say in a line how things stand."""
    return (
        f"{sample.at_s:6.0f} s: {published:,} published, PSS {sample.pss / MIB:.1f} MiB,"
        f" {sample.descriptors} descriptors, {sample.threads} threads,"
        f" file {sample.file / MIB:.1f} MiB, log {sample.wal / MIB:.1f} MiB"
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _cpu_share(samples: list[Sample]) -> float:
    if len(samples) < 2:
        return 0.0
    first, last = samples[0], samples[-1]
    return (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)
