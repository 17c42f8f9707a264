"""gRPC to the broker: one channel, retries, refusals as exceptions."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from broker_client.errors import BrokerRefused, BrokerUnavailable
from broker_client.generated.broker_pb2 import StreamingPullRequest
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.grpc_refusals import meaning_of, read_failure
from broker_client.retries import Retries

_OPTIONS = (
    # The broker has its own limits; a refusal names every fault of a batch.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.absolute_max_metadata_size", 8 * 1024 * 1024),
    # What is sent again is decided here, and a broker that is back is found soon.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A peer that is gone without a word is noticed, by pings as rare as servers put up with.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class GrpcChannel:
    """Makes calls to one broker, each again until it is answered or hopeless.

    `target` is `host:port`; without `credentials` nothing is encrypted. Safe to share between
    threads; not over a fork.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 10.0,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if target.startswith(("http://", "https://")):
            raise ValueError(f"the target of gRPC is host:port, not {target!r}")
        self._target = target
        self._credentials = credentials
        self._metadata = () if api_key is None else (("authorization", f"Bearer {api_key}"),)
        self._timeout_s = timeout_s
        self._retries = Retries() if retries is None else retries
        self._sleep = sleep
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def call(self, method: str, request: Any, *, max_attempts: int | None = None) -> Any:
        """Make a call that may be repeated. Raises BrokerRefused, BrokerUnavailable."""
        return self._retries.call(
            lambda: self._attempt(method, request), max_attempts=max_attempts, sleep=self._sleep
        )

    def streaming_pull(self, requests: Iterator[StreamingPullRequest]) -> Any:
        """Open a stream of deliveries; reading from it raises grpc.RpcError."""
        return self._own_stub().StreamingPull(requests, metadata=self._metadata)

    def meaning_of(self, error: grpc.RpcError) -> BrokerRefused | BrokerUnavailable:
        """Say which exception of the library a failed call is."""
        return meaning_of(read_failure(error), self._target)

    def close(self) -> None:
        """Close the connections; a further call opens new ones."""
        with self._lock:
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def _attempt(self, method: str, request: Any) -> Any:
        call = getattr(self._own_stub(), method)
        try:
            return call(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.meaning_of(error) from error
        except ValueError as error:  # somebody has closed the channel since
            raise BrokerUnavailable(f"no answer from {self._target}: {error}") from error

    def _own_stub(self) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._connect()
                self._stub = BrokerStub(self._channel)  # type: ignore[no-untyped-call]
            return self._stub

    def _connect(self) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(self._target, options=_OPTIONS)
        return grpc.secure_channel(self._target, self._credentials, options=_OPTIONS)
