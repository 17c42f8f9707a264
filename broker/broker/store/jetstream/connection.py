"""Connecting to the NATS servers."""

import asyncio
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from broker.nats_address import Address

RETRY_PAUSE_S = 0.1
CONNECT_S = 2.0
# A server that is frozen, or that no packet reaches any more, closes no connection. One that leaves
# two pings unanswered is left for another, before the lease lapses for it.
PING_S = 1
UNANSWERED_PINGS = 2
CLOSE_S = 2.0

TRANSIENT = (NatsError, asyncio.TimeoutError, OSError)


async def connect(
    address: Address, name: str, error_cb: Callable[[Exception], Awaitable[None]]
) -> Client:
    """Connect, and again whenever the connection is lost; `error_cb` hears why it is not there.

    Raises one of TRANSIENT.
    """
    return await nats.connect(
        servers=list(address.servers),
        name=name,
        connect_timeout=CONNECT_S,
        reconnect_time_wait=RETRY_PAUSE_S,
        max_reconnect_attempts=-1,
        ping_interval=PING_S,
        max_outstanding_pings=UNANSWERED_PINGS,
        error_cb=error_cb,
    )
