"""How all cells stand: those that are owned here are looked at, the others asked for."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias

import aiohttp
import msgspec

from broker.api.served import Served
from broker.history import Rates
from broker.metrics import Measures
from broker.overview import Overview, of_all_cells, overview_of
from broker.sharing.cluster import Cluster

log = logging.getLogger(__name__)

PATH = "/cells/overviews"
HEADER = "broker-secret"
ASK_S = 2.0
_HEADER_NAME = HEADER.encode()

Seen: TypeAlias = Mapping[int, tuple[Measures, Rates]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, Overview]).decode


class Overviews:
    """Tells the pages of all cells, and other brokers of those that are owned here."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections to the others."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def told(self, scope: Mapping[str, Any]) -> Coroutine[None, None, bytes] | None:
        """Answer another broker, and nobody else: this tells of every topic."""
        if scope["path"] != PATH or scope["method"] != "GET":
            return None
        secret = next((value for name, value in scope["headers"] if name == _HEADER_NAME), b"")
        return self._told() if self._cluster.is_of_a_broker(secret.decode("latin-1")) else None

    async def _told(self) -> bytes:
        seen = await self.here()
        return await asyncio.to_thread(lambda: _encode(overviews_of(seen)))

    async def here(self) -> Seen:
        """Look at the cells that are owned here."""
        return {
            cell: await _look(served)
            for cell, served in self._cluster.all_served().items()
            if not served.ending.is_set()
        }

    async def elsewhere(self) -> dict[int, Overview]:
        """Ask the owners of the others; who does not answer in time tells of nothing."""
        owners = {
            owner
            for cell in range(self._cluster.count)
            if self._cluster.served(cell) is None
            and (owner := self._cluster.owner(cell)) is not None
        }
        found: dict[int, Overview] = {}
        for each in await asyncio.gather(*map(self._ask, owners)):
            found.update(each)
        return found

    async def _ask(self, owner: str) -> dict[int, Overview]:
        try:
            headers = {HEADER: self._cluster.secret}
            async with self._client().get(owner + PATH, headers=headers) as answer:
                return _decode(await answer.read()) if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            log.warning(
                "%s does not tell of its cells: %r", owner, error, extra={"action": "not_told"}
            )
            return {}

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=ASK_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def all(self) -> tuple[Seen, dict[int, Overview]]:
        """Return how the cells here stand, and those elsewhere."""
        elsewhere, seen = await asyncio.gather(self.elsewhere(), self.here())
        return seen, elsewhere

    def together(self, seen: Seen, elsewhere: Mapping[int, Overview]) -> Overview:
        """Tell of all cells."""
        return of_all_cells({**elsewhere, **overviews_of(seen)}, self._cluster.count)


def overviews_of(seen: Seen) -> dict[int, Overview]:
    """Tell of some cells, each of its own."""
    return {cell: overview_of(*each) for cell, each in seen.items()}


async def _look(served: Served) -> tuple[Measures, Rates]:
    served.under_way += 1  # its store stays open
    try:
        return await served.broker.measures(), served.broker.history.rates()
    finally:
        served.under_way -= 1
