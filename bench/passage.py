"""Messages on their way through a running broker, from publish requests to signed webhooks.

The loader is not slowed when the broker takes messages faster than it delivers them. So the time
runs from the first publish to the last webhook, over all messages, and no backlog is left.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.deliveries import Receiver, await_deliveries
from bench.loader import Load, run_wrk
from bench.publishing import check_stored
from bench.result import Result, cost_since
from bench.servers import ServerUnderTest
from bench.topic import Subscription, Topic, final_count


@dataclass(frozen=True, slots=True)
class Passage:
    """The topics that are published to, and the one receiver of what `fan_out` subscriptions get.

    `watched` are those subscriptions that are asked for their backlog.
    """

    server: ServerUnderTest
    topics: Sequence[Topic]
    receiver: Receiver
    fan_out: int = 1
    watched: Sequence[Subscription] = ()

    def measure(self, load: Load, events: int = 1) -> Result:
        """Publish, wait until all is delivered, compare the counts; `events` are in a request.

        A message that goes to several subscriptions counts as often. Raises CountsDiffer.
        """
        held = self._held()
        before = self.receiver.deliveries()
        cpu_s, started_at = self.server.cpu_seconds(), time.time()
        outcome = run_wrk(load)
        backlog = sum(subscription.backlog() for subscription in self.watched)
        for subscription in self.watched:
            subscription.drain()

        stored = self._held() - held
        check_stored(outcome.accepted * events, stored, load.unanswered * events)
        owed = stored * self.fan_out
        got = await_deliveries(self.receiver, before.received - before.duplicates + owed)
        return Result(
            messages=owed,
            seconds=got.last_at - started_at,
            cost=cost_since(cpu_s, self.server),
            errors=outcome.errors,
            backlog=backlog,
        )

    def _held(self) -> int:
        return final_count(self.topics)
