"""The rivals that the bench knows, by name."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from bench.rivals import nats_jetstream, rabbitmq, redis_streams
from bench.rivals.dialect import Dialect
from bench.rivals.source import Source

RIVALS = (nats_jetstream.RIVAL, rabbitmq.RIVAL, redis_streams.RIVAL)
# Redis brings a loader of its own.
DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    nats_jetstream.RIVAL.name: nats_jetstream.NatsDialect,
    rabbitmq.RIVAL.name: rabbitmq.AmqpDialect,
}
SOURCES: Mapping[str, Callable[[int], AbstractAsyncContextManager[Source]]] = {
    nats_jetstream.RIVAL.name: nats_jetstream.nats_source,
    rabbitmq.RIVAL.name: rabbitmq.rabbit_source,
    redis_streams.RIVAL.name: redis_streams.redis_source,
}
