"""Put so many messages into a topic as fast as the broker takes them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.finding import Say
from bench.messages import BATCH, order
from bench.topic import Topic

EVENTS = 1000
CONNECTIONS = 4
# As in publish.lua: ids that are all different and come in no order.
NUMBERS = 10**9
STRIDE = 618033989
EVENT = (
    b'{"specversion":"1.0","source":"/bench","type":"order.created","id":"fill-%012d","data":%s}'
)


def requests(first: int, count: int) -> Iterator[range]:
    """Cut `count` messages, the first of which has the number `first`, into requests."""
    end = first + count
    for start in range(first, end, EVENTS):
        yield range(start, min(start + EVENTS, end))


def request_body(numbers: range, data: bytes) -> bytes:
    """Build a batch of events whose ids are scattered."""
    events = (EVENT % (number * STRIDE % NUMBERS, data) for number in numbers)
    return b"[%s]" % b",".join(events)


def fill(topic: Topic, count: int, say: Say, first: int = 0) -> None:
    """Publish exactly `count` messages, and say how far that is.

    Their ids come from the numbers from `first` on; no other call may have used the same.
    """
    data = order()

    def publish(numbers: range) -> int:
        topic.broker.post(topic.messages_path, request_body(numbers, data), BATCH)
        return len(numbers)

    done, told = 0, 0
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for published in pool.map(publish, requests(first, count)):
            done += published
            if done - told >= count / 10:
                told = done
                say(f"{done:,} of {count:,} messages")
