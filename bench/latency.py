"""How long a message takes from its publisher to its webhook, at a steady rate."""

from collections.abc import Mapping
from pathlib import Path

from bench.percentiles import curve_of, spread_of
from bench.result import CountsDiffer, Latency, Result, cost_since
from bench.schedule import Publisher, PublishTimes, Schedule
from bench.servers import running_broker
from bench.stopwatch import running_stopwatch
from bench.topic import Subscription, Topic

# The messages of the first second are sent, but not counted.
WARM_UP_S = 1
# Messages leave the log about as fast as they come, from the first seconds on.
KEPT_S = 2


def measure_latency(folder: Path, seconds: float, rate: int) -> Result:
    """Publish by the clock, and compare the times with those of the arrivals."""
    schedule = Schedule(count=round((seconds + WARM_UP_S) * rate), rate=rate)
    with running_broker(folder) as server, running_stopwatch(folder) as stopwatch:
        topic = Topic.created(server.process, retention={"max_age_s": KEPT_S})
        subscription = Subscription.created(topic, stopwatch, {"ordering": "none"})
        cpu_s = server.cpu_seconds()
        times = Publisher(server.process.port, topic.messages_path).run(schedule)
        subscription.drain()
        cost = cost_since(cpu_s, server)
        subscription.deliveries(schedule.count)
        arrivals_ns = stopwatch.arrivals_ns()
    return Result(
        messages=schedule.count,
        seconds=schedule.count / rate,
        cost=cost,
        latency=latency_of(times, arrivals_ns, first=WARM_UP_S * rate),
    )


def latency_of(times: PublishTimes, arrivals_ns: Mapping[int, int], first: int) -> Latency:
    """Sum up the messages from index `first` on. Raises CountsDiffer if one did not arrive."""
    missing = len(times.due_ns) - len(arrivals_ns)
    if missing:
        raise CountsDiffer(f"{missing} of {len(times.due_ns)} messages did not arrive")

    def after_due(moments: Mapping[int, int]) -> list[int]:
        return [moments[i] - times.due_ns[i] for i in range(first, len(times.due_ns))]

    to_webhook = after_due(arrivals_ns)
    return Latency(
        to_webhook=spread_of(to_webhook),
        to_answer=spread_of(after_due(times.answered_ns)),
        to_send=spread_of(after_due(dict(enumerate(times.sent_ns)))),
        curve_ms=curve_of(to_webhook),
    )
