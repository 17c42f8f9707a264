"""A disk that fills up: publishing stops in time, what is stored is delivered, room comes back.

The disks are small ones in memory, which only root may make.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.command import run_broker
from support.disk import Disk, mounted
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem

MIB = 1024 * 1024
BINARY = {"content-type": "application/octet-stream"}

Mount = Callable[[int], Disk]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Make a disk of so many bytes."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(mounted(tmp_path / "disk", size))


@pytest.fixture
def broker_on(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Start a broker with its store on a disk, and its log elsewhere."""
    started: list[BrokerProcess] = []

    def start(folder: Path, **settings: str) -> BrokerProcess:
        store = f"sqlite:///{folder / 'broker.db'}"
        started.append(BrokerProcess(tmp_path, BROKER_STORE=store, **settings))
        return started[-1].start()

    yield start
    for process in started:
        process.close()
        print(process.log()[-20_000:])


def test_publishing_stops_in_time_and_goes_on_when_retention_has_made_room(
    mount: Mount, broker_on: Callable[..., BrokerProcess], endpoint: Endpoint
) -> None:
    disk = mount(192 * MIB)
    broker = broker_on(disk.folder, BROKER_MIN_FREE_BYTES=str(64 * MIB))
    api = broker.api
    worker = broker.worker().pid
    endpoint.script = always(Answer(404))  # no failure that would open the circuit
    retry = {"max_attempts": 0, "min_backoff_s": 0.05, "max_backoff_s": 0.1}
    api.ok_subscribe("t", endpoint.url, retry=retry)

    published: list[int] = []
    refused = None
    for n in range(1000):
        answer = api.post("t", os.urandom(MIB // 2), {**BINARY, "ce-partitionkey": f"k{n % 8}"})
        if answer.status_code == 507:
            refused = answer
            break
        published.append(good(answer)["sequence"])

    assert refused is not None
    assert read_problem(refused, 507).code == "storage_full"
    assert refused.headers["retry-after"]
    assert disk.free() > 16 * MIB, "refused while there was still room for everything else"
    assert broker.is_ready()

    endpoint.script = always(Answer(200))
    eventually(lambda: api.ok_status("t")["backlog"] == 0, within_s=60)
    assert set(endpoint.sequences) >= set(published)
    # A message or two may fit by now: what was written ahead has found its place.
    eventually(lambda: api.post("t", os.urandom(MIB // 2), BINARY).status_code == 507)

    api.put_topic("t", retention={"max_messages": 5})

    eventually(lambda: good(api.get_topic("t"))["message_count"] == 5)
    eventually(lambda: api.publish("t", "room again").status_code == 201)
    more = len(published)
    while more:  # what there was once more, through the room that retention makes
        answer = api.post("t", os.urandom(MIB // 2), BINARY)
        assert answer.status_code in {201, 507}
        more -= answer.status_code == 201
    assert disk.free() > 16 * MIB
    assert broker.worker().pid == worker


def test_broker_recovers_from_a_disk_that_is_full_to_the_last_byte(
    mount: Mount, broker_on: Callable[..., BrokerProcess], endpoint: Endpoint
) -> None:
    disk = mount(64 * MIB)
    ballast = disk.folder / "ballast"
    ballast.write_bytes(b"x" * (24 * MIB))
    broker = broker_on(disk.folder, BROKER_MIN_FREE_BYTES="0")
    broker.api.ok_subscribe("t", endpoint.url)
    acknowledged: dict[str, int] = {}
    ended: list[str] = []

    def publishing(name: str) -> None:
        with Api(broker.base_url, timeout_s=10) as api:
            for n in count():
                id_ = f"{name}-{n}"
                try:
                    headers = {**BINARY, "ce-id": id_, "ce-partitionkey": name}
                    answer = api.post("t", os.urandom(200_000), headers)
                except httpx.TimeoutException:
                    ended.append("hung")
                    return
                except httpx.TransportError:
                    ended.append("cut off")
                    return
                if answer.status_code != 201:
                    ended.append(str(answer.status_code))
                    return
                acknowledged[id_] = answer.json()["sequence"]

    threads = [threading.Thread(target=publishing, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ended) == 8
    assert set(ended) <= {"503", "cut off"}, ended
    assert "database or disk is full" in broker.log()

    ballast.unlink()
    broker.recover()

    stored = {m["id"]: m["sequence"] for m in broker.api.all_messages("t", limit=20)}
    assert stored.items() >= acknowledged.items()
    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0, within_s=60)
    assert set(endpoint.sequences) >= set(acknowledged.values())
    broker.stop()
    assert run_broker("check", disk.folder).returncode == 0
