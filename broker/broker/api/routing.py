"""Which broker a request is for, where each owns some cells of the store."""

import asyncio
import time
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from broker.api.answers import (
    JSON,
    AsgiApp,
    Kept,
    Send,
    answer,
    given,
    refusal,
    with_request_id,
)
from broker.api.departure import Departure
from broker.api.forwarding import NOT_OWNER, Forwarding, HandedOn, NotOwner, handed_on
from broker.api.original import PATHS, topic_in
from broker.api.publish import Receive, Scope, length_in, read_body
from broker.api.served import Served
from broker.errors import BrokerError, NoOwner
from broker.partition import HOME, cell_of

WAIT_S = 5.0
"""How long a request waits for an owner: a cell that is handed over has none for a moment."""
POLL_S = 0.1
MAX_LIST_BYTES = 1024 * 1024
_LIST = ("/v1/topics", "/v1/topics/")
_OWN = ("/metrics", "/readyz")
_PACKED = (b"content-type", b"application/msgpack")
_NAMING = ("/v1/topics/", "/v1/acks/", "/topics/")


class Cells(Protocol):
    """The cells of the store, as this broker has them."""

    count: int

    def served(self, cell: int) -> Served | None:
        """Return what serves a cell here, None where it is not owned here."""

    def owner(self, cell: int) -> str | None:
        """Return the URL of another broker that owns a cell, None where that is not known."""

    def end(self) -> None:
        """Begin to leave all cells: the process stops."""

    async def changed(self, within_s: float) -> None:
        """End when a cell is served here that was not, or after some seconds."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is to serve a request here, what the request is received by, and what to end then."""

    served: Served
    receive: Receive
    end: ExitStack = field(default_factory=ExitStack)


class Named(msgspec.Struct):
    """As much of a topic in a list as its place there needs."""

    name: str


class Listed(msgspec.Struct):
    """A list of topics, not looked into."""

    topics: list[msgspec.Raw]


_listed = msgspec.json.Decoder(Listed).decode
_named = msgspec.json.Decoder(Named).decode


class Routing:
    """Takes each request to where its cell is."""

    def __init__(
        self,
        cells: Cells,
        own: Callable[[], AsgiApp],
        forwarding: Forwarding,
        told: Callable[[Scope], Coroutine[Any, Any, bytes] | None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cells = cells
        self._own = own
        self._forwarding = forwarding
        self._told = told  # what only another broker may ask, None for anything else
        self._monotonic = monotonic

    def end(self) -> None:
        """Have those go who wait or watch."""
        self._cells.end()
        for cell in range(self._cells.count):
            if (served := self._cells.served(cell)) is not None:
                served.ending.set()

    async def find(
        self, scope: Scope, receive: Receive, send: Send, request_id: bytes
    ) -> Found | None:
        """Return what serves a request here, or have it answered. Raises a BrokerError."""
        path, method = scope["path"], scope["method"]
        if path in _OWN:
            await self._answer_for_itself(scope, receive, send, request_id)
            return None
        telling = self._told(scope)
        if telling is not None:
            await answer(send, (200, [_PACKED], await telling), request_id)
            return None
        asked_for = handed_on(scope)
        if path in _LIST and method == "GET":
            if asked_for is None:
                await self._list(scope, receive, send, request_id)
                return None
            cell = self._cell_named(asked_for)
        elif path == "/produce" and method == PATHS[path]:
            # A topic is named only in here.
            body = await self._forwarding.read(scope, receive)
            receive = given(body, receive)
            cell = self._cell(topic_in(body))
        else:
            cell = self._cell(topic_of(scope))
        return await self._find(cell, scope, receive, send, request_id, asked_for is not None)

    def _cell_named(self, named: str) -> int:
        """Return the cell of a number that a client may have written as well as a broker."""
        usable = named.isdecimal() and len(named) <= len(str(self._cells.count))
        return int(named) % self._cells.count if usable else HOME

    def _cell(self, topic: str | None) -> int:
        return HOME if topic is None else cell_of(topic, self._cells.count)

    async def _find(
        self,
        cell: int,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: bytes,
        was_handed_on: bool,
    ) -> Found | None:
        served = self._cells.served(cell)
        if served is not None:
            return Found(served, receive)
        with ExitStack() as undo:
            return await self._find_elsewhere(
                cell, scope, receive, send, request_id, was_handed_on, undo
            )

    async def _find_elsewhere(
        self,
        cell: int,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: bytes,
        was_handed_on: bool,
        undo: ExitStack,
    ) -> Found | None:
        until = self._monotonic() + WAIT_S
        request: HandedOn | None = None
        while True:
            served = self._cells.served(cell)
            if served is not None:
                if request is not None:
                    receive = given(request.body, receive)
                return Found(served, receive, undo.pop_all())
            owner = self._cells.owner(cell)
            if owner is not None and was_handed_on:
                status, headers, body = refusal(NoOwner())
                await answer(send, (status, [*headers, NOT_OWNER], body), request_id)
                return None
            if owner is not None:
                if request is None:
                    request = await self._forwarding.take(scope, receive, request_id, cell)
                    departure = Departure(receive)
                    undo.callback(departure.end)
                    receive = departure.receive
                try:
                    await self._forwarding.ask(
                        request, lambda: self._cells.owner(cell), receive, send
                    )
                except (NoOwner, NotOwner):
                    pass  # it lets go of the cell, or is gone: another follows
                else:
                    return None
            if self._monotonic() > until:
                raise NoOwner
            await self._cells.changed(POLL_S)

    async def _answer_for_itself(
        self, scope: Scope, receive: Receive, send: Send, request_id: bytes
    ) -> None:
        """Tell of this broker and the cells that it owns."""
        owns = any(self._cells.served(cell) is not None for cell in range(self._cells.count))
        if scope["path"] == "/readyz" and not owns:
            if self._cells.owner(HOME) is None:
                raise NoOwner
            await answer(send, (200, [JSON], b'{"status":"standby"}'), request_id)
            return
        body = await read_body(receive, length_in(scope), MAX_LIST_BYTES)
        await self._own()(scope, given(body), with_request_id(send, request_id))

    async def _list(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """List the topics of every cell, as whoever owns it would."""
        await read_body(receive, length_in(scope), MAX_LIST_BYTES)
        asked = [self._kept(cell, scope, request_id) for cell in range(self._cells.count)]
        kept: list[Kept] = []
        for each in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each if isinstance(each, BrokerError) else NoOwner from each
            kept.append(each)
        first = next((each for each in kept if each.status != 200), None)
        if first is not None:
            headers = [each for each in first.headers if each[0] in _OF_A_REFUSAL]
            await answer(send, (first.status, headers, first.body), request_id)
            return
        topics = [topic for each in kept for topic in _listed(each.body).topics]
        topics.sort(key=lambda topic: _named(topic).name)
        await answer(send, (200, [JSON], msgspec.json.encode(Listed(topics))), request_id)

    async def _kept(self, cell: int, scope: Scope, request_id: bytes) -> Kept:
        kept = Kept()
        found = await self._find(cell, scope, given(b"", _silence), kept.send, request_id, False)
        if found is not None:
            served = found.served
            served.under_way += 1
            try:
                await served.control(dict(scope), found.receive, kept.send)
            finally:
                served.under_way -= 1
                found.end.close()
        return kept


_OF_A_REFUSAL = (b"content-type", b"retry-after", b"www-authenticate")


async def _silence() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError("nothing comes")


def topic_of(scope: Scope) -> str | None:
    """Return which topic the path or the query of a request names, None where they name none."""
    path: str = scope["path"]
    for beginning in _NAMING:
        if path.startswith(beginning):
            return path.removeprefix(beginning).partition("/")[0] or None
    if path in PATHS:
        return dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("topic")
    return None
