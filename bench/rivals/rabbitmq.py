"""RabbitMQ: a quorum queue with publisher confirms.

A quorum queue writes and syncs its log before it confirms; a classic queue need not.
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pika
from pika import frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.channel import Channel

from bench.rivals.dialect import Answer
from bench.rivals.processes import run_closed_loop
from bench.rivals.rival import QUEUE, Rival, RivalServer
from bench.rivals.source import IN_FLIGHT, Taken
from bench.server_process import HOST, free_port, running

NAME = "rabbitmq"
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
CHANNEL = 1
QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = spec.BasicProperties(content_type="application/json", delivery_mode=2)
EPMD_S = 10.0
POLL_S = 0.05


class AmqpDialect:
    """AMQP 0-9-1 on one channel with confirms, framed by pika."""

    def __init__(self) -> None:
        self._confirmed = 0

    def hello(self) -> bytes:
        """Send the protocol's header."""
        return bytes(frame.ProtocolHeader().marshal())

    def publish(self, body: bytes) -> bytes:
        """Publish a persistent message to the queue."""
        parts = (
            _method(spec.Basic.Publish(exchange="", routing_key=QUEUE)),
            frame.Header(CHANNEL, len(body), PERSISTENT).marshal(),
            frame.Body(CHANNEL, body).marshal(),
        )
        return b"".join(parts)

    def answered(self, buffer: bytearray) -> Answer:
        """Take confirms, and the handshake's steps, off the buffer."""
        confirmed = refused = 0
        begin, reply = False, b""
        while True:
            consumed, received = frame.decode_frame(bytes(buffer))
            if received is None:
                return Answer(confirmed, refused, begin, reply)
            del buffer[:consumed]
            method = getattr(received, "method", None)
            if isinstance(method, (spec.Basic.Ack, spec.Basic.Nack)):
                count = method.delivery_tag - self._confirmed
                self._confirmed = method.delivery_tag
                if isinstance(method, spec.Basic.Ack):
                    confirmed += count
                else:
                    refused += count
            elif isinstance(method, spec.Confirm.SelectOk):
                begin = True
            else:
                reply += _handshake(method)


def _handshake(method: Any) -> bytes:
    if isinstance(method, spec.Connection.Start):
        return _method(
            spec.Connection.StartOk(
                client_properties={}, mechanism="PLAIN", response="\0guest\0guest", locale="en_US"
            ),
            channel=0,
        )
    if isinstance(method, spec.Connection.Tune):
        tuned = spec.Connection.TuneOk(method.channel_max, method.frame_max, heartbeat=0)
        return _method(tuned, channel=0) + _method(spec.Connection.Open(), channel=0)
    if isinstance(method, spec.Connection.OpenOk):
        return _method(spec.Channel.Open())
    if isinstance(method, spec.Channel.OpenOk):
        return _method(spec.Confirm.Select())
    return b""


def _method(method: Any, channel: int = CHANNEL) -> bytes:
    return bytes(frame.Method(channel, method).marshal())


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[RivalServer]:
    """Start rabbitmq-server with an empty queue, and a name daemon of its own beside it."""
    data, port, name_port = folder / "rabbitmq", free_port(), free_port()
    data.mkdir()
    environ = {
        **os.environ,
        "HOME": str(data.absolute()),
        "ERL_EPMD_PORT": str(name_port),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(data.absolute()),
        "RABBITMQ_LOG_BASE": str(data.absolute()),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str((data / "enabled_plugins").absolute()),
        "RABBITMQ_CONF_ENV_FILE": str((data / "none").absolute()),
    }
    with (
        _running_names(name_port),
        running(
            [PROGRAM], port=port, ready=_answers, log=folder / "rabbitmq.log", environ=environ
        ) as process,
    ):
        _with_channel(port, lambda channel: _declare(channel, passive=False))
        yield RivalServer(process, data)


@contextmanager
def _running_names(port: int) -> Iterator[None]:
    """Run epmd, which Erlang would otherwise leave behind as a daemon."""
    process = subprocess.Popen(
        ["epmd", "-port", str(port), "-address", HOST], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + EPMD_S
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        _with_channel(port, lambda channel: None)
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def _with_channel(port: int, work: Callable[[BlockingChannel], Any]) -> Any:
    connection = pika.BlockingConnection(pika.ConnectionParameters(HOST, port))
    try:
        return work(connection.channel())
    finally:
        connection.close()


def _declare(channel: BlockingChannel, *, passive: bool) -> int:
    declared = channel.queue_declare(QUEUE, passive=passive, durable=True, arguments=QUORUM)
    return int(declared.method.message_count)


def count(port: int) -> int:
    """Count the messages in the queue that are not acknowledged."""
    return int(_with_channel(port, lambda channel: _declare(channel, passive=True)))


class RabbitSource:
    """A consumer with a prefetch of as many as may be in flight, twice."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[Taken] = asyncio.Queue()
        channel.basic_qos(prefetch_count=IN_FLIGHT * 2)
        channel.basic_consume(QUEUE, self._take)

    def _take(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        acknowledge = partial(self._acknowledge, method.delivery_tag)
        self._arrived.put_nowait(Taken(str(method.delivery_tag), body, acknowledge))

    async def _acknowledge(self, tag: int) -> None:
        self._channel.basic_ack(tag)

    async def messages(self) -> AsyncIterator[Taken]:
        """Give what the server pushes."""
        while True:
            yield await self._arrived.get()


@asynccontextmanager
async def rabbit_source(port: int) -> AsyncIterator[RabbitSource]:
    """Consume the queue."""
    opened: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    connection = AsyncioConnection(
        pika.ConnectionParameters(HOST, port),
        on_open_callback=lambda made: made.channel(on_open_callback=opened.set_result),
        on_open_error_callback=lambda _, error: opened.set_exception(error),
    )
    try:
        yield RabbitSource(await opened)
    finally:
        connection.close()


RIVAL = Rival(
    name=NAME,
    title="RabbitMQ",
    program=PROGRAM,
    install="apt-get install rabbitmq-server",
    version=("dpkg-query", "--show", "rabbitmq-server"),
    settings="a quorum queue of one node, persistent messages, publisher confirms",
    running=running_rabbitmq,
    count=count,
    load=lambda port, connections, messages: run_closed_loop(NAME, port, connections, messages),
)
