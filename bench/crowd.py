"""Create many topics and subscriptions."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.server_process import ServerProcess
from bench.topic import Topic

CONNECTIONS = 4


def create_topics(broker: ServerProcess, names: Iterable[str]) -> list[Topic]:
    """Create topics of these names."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(lambda name: Topic.created(broker, name), names))


def subscribe_all(topics: Iterable[Topic], each: int, options: dict[str, Any]) -> int:
    """Give every topic so many subscriptions to the endpoint in the options; return how many.

    Each has an endpoint of its own, told apart by the URL's query: `?n=<topic>-<number>`.
    """
    wanted = [(topic, number) for topic in topics for number in range(each)]

    def subscribe(topic: Topic, number: int) -> None:
        endpoint = f"{options['endpoint']}?n={topic.name}-{number}"
        topic.subscribe(f"s-{number}", options | {"endpoint": endpoint})

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda pair: subscribe(*pair), wanted))
    return len(wanted)
