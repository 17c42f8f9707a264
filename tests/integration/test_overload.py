"""More than the broker can take: it says so early, keeps within its memory, and goes on after."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

import httpx
import psutil

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.cloudevent import BATCH, STRUCTURED, event
from support.eventually import eventually
from support.problem import read_problem

MIB = 1024 * 1024
HELD = 60
CEILING = 1000 * MIB
"""What all of the broker's processes may have together.

At rest that is some 100 MiB. 128 MiB of bodies may be under way, each once more when it is read,
and the deliveries of five subscriptions have 32 MiB each, in the worker and in the courier.
"""


class Memory:
    """The most memory that a broker has had while this was watched."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._root = psutil.Process(broker.process.pid)
        self.most = 0
        self._stopping = Event()
        self._thread = Thread(target=self._watch, name="memory")

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.05):
            tree = [self._root, *self._root.children(recursive=True)]
            self.most = max(self.most, sum(each.memory_full_info().pss for each in tree))


@contextmanager
def unfinished(broker: BrokerProcess, count: int, size: int) -> Iterator[list[socket.socket]]:
    """Open connections that each send all of a batch but its last byte."""
    head = (
        b"POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n" % (BATCH.encode(), size)
    )
    body = b"[" + b" " * (size - 2)
    with ExitStack() as opened, ThreadPoolExecutor(count) as threads:

        def send(_: int) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", broker.port), timeout=60)
            opened.callback(connection.close)
            with suppress(ConnectionError):  # refused before it is sent
                connection.sendall(head + body)
            return connection

        yield list(threads.map(send, range(count)))


def test_bodies_that_do_not_end_fill_no_memory(start_broker: StartBroker) -> None:
    broker = start_broker()
    worker = broker.worker().pid

    with Memory(broker) as memory, unfinished(broker, HELD, 16 * MIB) as connections:
        broker.api.ok_publish("t", "small ones are taken meanwhile")
        refused = sum(_answer(each).startswith(b"HTTP/1.1 429 ") for each in connections)

    assert memory.most < CEILING
    assert refused > HELD / 2
    eventually(lambda: large_batch_is_taken(broker.api))
    assert broker.worker().pid == worker


def test_ten_times_what_it_can_take_is_taken_or_refused_and_nothing_else(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    worker = broker.worker().pid
    for number in range(5):
        nowhere = f"http://127.0.0.1:{free_port()}/"
        broker.api.ok_subscribe("t", nowhere, f"dead-{number}", format=FORMATS[number % 2])
    broker.api.ok_subscribe("t", None, "pulled", ordering="none")

    with Memory(broker) as memory:
        told = flood(broker.base_url)

    assert memory.most < CEILING
    assert set(told) <= {201, 429, 503, 507, CUT_OFF}
    assert told[201] > 0
    assert told[429] > 0
    assert broker.worker().pid == worker
    assert '"level": "error"' not in broker.log()
    api = broker.api
    ids = {message["id"] for message in api.all_messages("t", limit=20)}
    assert ids >= told.taken, "what was answered is not there"
    after = api.ok_publish("t", "afterwards it works as before")
    assert after == good(api.get_topic("t"))["last_sequence"]
    assert good(api.act("t", "pull", "pulled", {"max_messages": 1}))["deliveries"]
    eventually(lambda: large_batch_is_taken(api))


CONNECTIONS, EACH = 120, 2
FORMATS = ("binary", "batch")
CUT_OFF = 0
"""A request that was refused before it was sent may find its connection closed."""


class Told(Counter[int]):
    """How often each status was answered; `taken` has the ids that are promised to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[str] = set()


def flood(base_url: str) -> Told:
    """Publish much at once: messages of 1 MiB from most connections, large batches from some."""
    told = Told()

    def publish(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=60) as http:
            for turn in range(EACH):
                ids, content, type_ = _body(f"{number}-{turn}", batch=number % 5 == 0)
                try:
                    answer = http.post(
                        f"{base_url}/v1/topics/t/messages",
                        content=content,
                        headers={"content-type": type_},
                    )
                except httpx.TransportError:
                    told[CUT_OFF] += 1
                    continue
                told[answer.status_code] += 1
                if answer.status_code == 201:
                    told.taken.update(ids)
                elif answer.status_code == 429:
                    assert answer.headers["retry-after"] == "1"
                    assert read_problem(answer, 429).code == "overloaded"

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(publish, range(CONNECTIONS)))
    return told


def _body(name: str, *, batch: bool) -> tuple[list[str], bytes, str]:
    if not batch:
        return [name], json.dumps(event(id=name, data="x" * 1_000_000)).encode(), STRUCTURED
    ids = [f"{name}-{number}" for number in range(12)]
    return ids, json.dumps([event(id=id, data="x" * 1_000_000) for id in ids]).encode(), BATCH


def large_batch_is_taken(api: Api) -> bool:
    """Say whether a batch of 10 MiB is taken."""
    events = [event(data="x" * MIB, datacontenttype="text/plain") for _ in range(10)]
    return api.publish_batch("t", events).status_code == 201


def _answer(connection: socket.socket) -> bytes:
    """Read what has come on a connection, if anything has."""
    connection.settimeout(0.2)
    try:
        return connection.recv(65536)
    except (TimeoutError, ConnectionError):
        return b""
