"""The journal's stream, and its snapshots: what is asked of NATS, again and again if need be."""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ObjectMeta, ObjectStoreConfig, StorageType, StreamConfig
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError

from broker.nats_address import Address
from broker.store.jetstream.connection import CLOSE_S, RETRY_PAUSE_S, TRANSIENT, connect
from broker.store.port import LeaseLost, Unavailable, Unusable

T = TypeVar("T")
log = logging.getLogger(__name__)

ATTEMPT_S = 2.0
# More than it takes the servers to elect a leader, 4 to 9 s.
GIVE_UP_S = 12.0
READ_MESSAGES = 256
READ_BYTES = 8 * 1024 * 1024
WRONG_LAST_SEQUENCE = 10071
OTHER_CONFIGURATION = 10058
# In how many parts the store is, where there are several: among what NATS keeps with a stream.
CELLS = "broker-cells"
# The server's default, and what the longest record and its headers need.
LEAST_PAYLOAD_BYTES = 1024 * 1024


class Entry(NamedTuple):
    """A message of the stream."""

    seq: int
    payload: bytes


class Stream:
    """One stream that several brokers read and one of them writes."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._nats: Client = Client()
        self._js: JetStreamContext = self._nats.jetstream()
        self._opened = False
        self._told = ""

    async def open(self) -> str:
        """Connect and make the stream where there is none; return what tells it from every other.

        Tries until it succeeds. Raises Unusable where the servers will never have it.
        """
        self._nats = await connect(self._address, "broker", self._hear)
        self._opened = True
        self._js = self._nats.jetstream(timeout=ATTEMPT_S)
        return await self._tried(self._ensure)

    async def _hear(self, error: Exception) -> None:
        """Say once what keeps the connection from being made."""
        text = f"{error or type(error).__name__}"
        if text != self._told:
            self._told = text
            log.warning("NATS: %s.", text, extra={"action": "nats_error"})

    async def _ensure(self) -> str:
        if self._nats.max_payload < LEAST_PAYLOAD_BYTES:
            raise Unusable(
                f"NATS takes {self._nats.max_payload:,} bytes in a message, and the journal "
                f"{self._address} needs {LEAST_PAYLOAD_BYTES:,}. Raise max_payload of the servers."
            )
        config = StreamConfig(
            name=self._address.stream,
            subjects=[self._address.subject],
            storage=StorageType.FILE,
            num_replicas=self._address.replicas,
            allow_direct=True,
            deny_delete=True,
            metadata={CELLS: str(self._address.cells)} if self._address.cells > 1 else None,
        )
        try:
            info = await self._js.stream_info(self._address.stream)
        except NotFoundError:
            try:
                info = await self._js.add_stream(config)
            except APIError as error:
                if error.err_code == OTHER_CONFIGURATION:
                    raise  # another broker has made it meanwhile: look again
                if error.code is not None and 400 <= error.code < 500:
                    raise Unusable(
                        f"NATS does not keep the journal {self._address}: {error.description}."
                    ) from None
                raise
        cells = int((info.config.metadata or {}).get(CELLS, "1"))
        if cells != self._address.cells:
            raise Unusable(
                f"The store at {self._address} was made with cells={cells}, and BROKER_STORE says "
                f"cells={self._address.cells}. Set ?cells={cells} there."
            )
        return str(info.created)

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except TRANSIENT as error:
                await self._hear(error)
                await asyncio.sleep(RETRY_PAUSE_S)

    async def close(self) -> None:
        """Disconnect, whether or not the server takes what is left to send."""
        if not self._opened:
            return
        with contextlib.suppress(*TRANSIENT):
            await asyncio.wait_for(self._nats.close(), CLOSE_S)

    async def bounds(self) -> tuple[int, int]:
        """Return the first sequence that the stream still has, or will have, and the last given."""
        info = await self._js.stream_info(self._address.stream)
        return int(info.state.first_seq), int(info.state.last_seq)

    async def read(self, after: int) -> Sequence[Entry]:
        """Return what comes after a sequence, READ_MESSAGES or about READ_BYTES at most.

        Any server that has the stream answers, and may not have the newest yet. Raises one of
        TRANSIENT.
        """
        asked = {
            "seq": after + 1,
            "next_by_subj": self._address.subject,
            "batch": READ_MESSAGES,
            "max_bytes": READ_BYTES,
        }
        inbox = self._nats.new_inbox()
        answers = await self._nats.subscribe(inbox)
        try:
            subject = f"$JS.API.DIRECT.GET.{self._address.stream}"
            await self._nats.publish(subject, json.dumps(asked).encode(), reply=inbox)
            entries: list[Entry] = []
            # Its own time-out, asyncio.wait_for, loses cancellations before Python 3.12.
            async with asyncio.timeout(ATTEMPT_S) as patience:
                while (entry := _entry_in(await answers.next_msg(timeout=None))) is not None:
                    entries.append(entry)
                    patience.reschedule(asyncio.get_running_loop().time() + ATTEMPT_S)
            return entries
        finally:
            with contextlib.suppress(*TRANSIENT):
                await answers.unsubscribe()

    async def append(self, payload: bytes, last: int, name: str) -> int:
        """Append a message right behind the one with sequence `last`; return its own.

        `name` tells it from every other. Raises LeaseLost where something else stands there,
        Unavailable if the outcome is unknown.
        """
        headers = {"Nats-Msg-Id": name, "Nats-Expected-Last-Sequence": str(last)}
        deadline = asyncio.get_running_loop().time() + GIVE_UP_S
        while True:
            try:
                found = await self._append_once(payload, headers, last, name)
            except TRANSIENT as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"NATS does not answer: {error!r}") from None
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return found

    async def _append_once(
        self, payload: bytes, headers: dict[str, str], last: int, name: str
    ) -> int:
        try:
            ack = await self._js.publish(
                self._address.subject, payload, timeout=ATTEMPT_S, headers=dict(headers)
            )
        except APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        else:
            return int(ack.seq)
        # An earlier try may have been stored without an answer.
        try:
            found = await self._js.get_msg(self._address.stream, last + 1)
        except NotFoundError:
            raise LeaseLost(f"{self._address} does not go on at {last + 1}") from None
        if (found.headers or {}).get("Nats-Msg-Id") != name:
            raise LeaseLost(f"another broker has gone on with {self._address}")
        return last + 1

    async def forget(self, until: int) -> None:
        """Remove what is at or below a sequence."""
        await self._js.purge_stream(self._address.stream, seq=until + 1)

    # -- snapshots ---------------------------------------------------------------------------------

    async def save(self, file: Path, seq: int) -> None:
        """Keep a snapshot of the store as it was at a sequence, and none that is older."""
        try:
            bucket = await self._js.object_store(self._address.snapshots)
        except (BucketNotFoundError, NotFoundError):
            config = ObjectStoreConfig(replicas=self._address.replicas)
            bucket = await self._js.create_object_store(self._address.snapshots, config)
        name = f"{seq}-{secrets.token_hex(4)}"
        older = [each.name for each in await _objects(bucket)]
        with file.open("rb") as data:
            await bucket.put(name, data, ObjectMeta(name=name))
        for each in older:
            with contextlib.suppress(NotFoundError):
                await bucket.delete(each)

    async def load(self, file: Path) -> bool:
        """Write the newest snapshot to a file; say whether there is one."""
        try:
            bucket = await self._js.object_store(self._address.snapshots)
        except (BucketNotFoundError, NotFoundError):
            return False
        names = [each.name for each in await _objects(bucket)]
        if not names:
            return False
        newest = max(names, key=lambda name: int(name.partition("-")[0]))
        with file.open("wb") as data:
            await bucket.get(newest, writeinto=data)
        return True


async def _objects(bucket: Any) -> Sequence[Any]:
    try:
        return [each for each in await bucket.list() if not each.deleted]
    except NotFoundError:
        return []


def _entry_in(message: Msg) -> Entry | None:
    """Return the entry of an answer, None at the end of the answers."""
    headers = message.headers or {}
    status = headers.get("Status")
    if status in {"204", "404"}:
        return None
    if status is not None:
        raise NatsError(f"status {status}")
    return Entry(int(headers["Nats-Sequence"]), message.data)
