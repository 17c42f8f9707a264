"""A broker while it answers requests, whichever door they come through."""

import asyncio
from dataclasses import dataclass, field

from broker.service import Broker


@dataclass(slots=True, kw_only=True)
class Serving:
    """What every door needs to know of a broker.

    Those who wait, or watch, are to go once `ending` is set; `under_way` is how many requests it
    has not answered yet. One that `leaves` may end while the process goes on.
    """

    broker: Broker
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    leaves: bool = False
