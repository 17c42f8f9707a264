"""NATS JetStream: a stream on file, synced before every answer."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import nats
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StorageType

from bench.rivals.dialect import Answer
from bench.rivals.processes import run_closed_loop
from bench.rivals.rival import QUEUE, Rival, RivalServer, find_program
from bench.rivals.source import IN_FLIGHT, Taken
from bench.server_process import HOST, ServerProcess, free_port, running

T = TypeVar("T")
NAME = "nats"
PROGRAM = "nats-server"
CONFIGURATION = """\
host: {host}
port: {port}
http: "{host}:{http_port}"
jetstream {{
  store_dir: "{data}"
  sync_interval: always
}}
"""
ACKNOWLEDGED_WITHIN_S = 30
MESSAGE = re.compile(rb"MSG \S+ \S+ (\d+)\r\n")


class NatsDialect:
    """NATS's text protocol, as far as a publisher needs it."""

    def __init__(self) -> None:
        self._inbox = f"_INBOX.{uuid.uuid4().hex}"

    def hello(self) -> bytes:
        """Connect, and listen for acknowledgements."""
        lines = ('CONNECT {"verbose":false,"pedantic":false}', f"SUB {self._inbox} 1", "PING", "")
        return "\r\n".join(lines).encode()

    def publish(self, body: bytes) -> bytes:
        """Publish a message that the stream acknowledges."""
        return b"PUB %s %s %d\r\n%s\r\n" % (
            QUEUE.encode(),
            self._inbox.encode(),
            len(body),
            body,
        )

    def answered(self, buffer: bytearray) -> Answer:
        """Take acknowledgements, and what else the server says, off the buffer."""
        confirmed = refused = 0
        begin, reply = False, b""
        while (line_end := buffer.find(b"\r\n") + 2) >= 2:
            head = MESSAGE.match(buffer)
            if head is None:
                line = bytes(buffer[: line_end - 2])
                begin |= line == b"PONG"
                reply += b"PONG\r\n" if line == b"PING" else b""
                refused += line.startswith(b"-ERR")
                del buffer[:line_end]
                continue
            end = line_end + int(head[1]) + 2
            if len(buffer) < end:
                break
            failed = b'"error"' in buffer[line_end:end]
            confirmed += not failed
            refused += failed
            del buffer[:end]
        return Answer(confirmed, refused, begin, reply)


@contextmanager
def running_nats(folder: Path) -> Iterator[RivalServer]:
    """Start nats-server with an empty stream."""
    data, port, http_port = folder / "nats", free_port(), free_port()
    configuration = folder / "nats.conf"
    values = {"host": HOST, "port": port, "http_port": http_port, "data": data.absolute()}
    configuration.write_text(CONFIGURATION.format(**values))
    command = [find_program(PROGRAM) or PROGRAM, "-c", str(configuration.absolute())]
    log = folder / "nats.log"
    with running(command, port=http_port, ready_path="/healthz", log=log) as process:
        _ask(port, _create)
        yield RivalServer(ServerProcess(process.pid, port), data)


async def _create(stream: JetStreamContext) -> None:
    await stream.add_stream(name=QUEUE, subjects=[QUEUE], storage=StorageType.FILE)


def count(port: int) -> int:
    """Count the messages in the stream."""
    return _ask(port, _count)


async def _count(stream: JetStreamContext) -> int:
    return (await stream.stream_info(QUEUE)).state.messages


def _ask(port: int, question: Callable[[JetStreamContext], Awaitable[T]]) -> T:
    async def asked() -> T:
        client = await nats.connect(f"nats://{HOST}:{port}")
        try:
            return await question(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(asked())


class NatsSource:
    """A pull consumer."""

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def messages(self) -> AsyncIterator[Taken]:
        """Fetch as many as may be in flight, over and over."""
        while True:
            try:
                fetched = await self._subscription.fetch(IN_FLIGHT, timeout=1)
            except nats.errors.TimeoutError:
                continue
            for message in fetched:
                sequence = str(message.metadata.sequence.stream)
                yield Taken(sequence, message.data, message.ack)


@asynccontextmanager
async def nats_source(port: int) -> AsyncIterator[NatsSource]:
    """Consume the stream from its beginning."""
    client = await nats.connect(f"nats://{HOST}:{port}")
    config = ConsumerConfig(ack_wait=ACKNOWLEDGED_WITHIN_S, max_ack_pending=IN_FLIGHT * 2)
    subscription = await client.jetstream().pull_subscribe(QUEUE, "forwarder", config=config)
    try:
        yield NatsSource(subscription)
    finally:
        await client.close()


RIVAL = Rival(
    name=NAME,
    title="NATS JetStream",
    program=PROGRAM,
    install="make setup",
    version=(PROGRAM, "--version"),
    settings="a stream on file, `sync_interval: always`, each message acknowledged",
    running=running_nats,
    count=count,
    load=lambda port, connections, messages: run_closed_loop(NAME, port, connections, messages),
)
