"""One stream of deliveries over gRPC: they come on it, and acknowledgements go."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import grpc

from broker_client.generated import broker_pb2 as pb

logger = logging.getLogger("broker_client.delivery_stream")


class DeliveryStream:
    """Reads what comes in a thread of its own, so that what waits to be handled is known at once.

    `open_` makes the call of its requests, of which `first` is the first. `arrived` and `settled`
    are called in that thread, with deliveries and with what became of acknowledgements; deliveries
    are then had by iterating, which ends with the stream. `error` is what ended it then, None
    where both sides had said all.
    """

    def __init__(
        self,
        open_: Callable[[Iterator[pb.StreamingPullRequest]], Any],
        first: pb.StreamingPullRequest,
        *,
        arrived: Callable[[Sequence[pb.Delivery]], None],
        settled: Callable[[Sequence[pb.AckResult]], None],
    ) -> None:
        self.error: grpc.RpcError | None = None
        self._arrived = arrived
        self._settled = settled
        self._over = threading.Event()
        self._requests: SimpleQueue[pb.StreamingPullRequest | None] = SimpleQueue()
        self._requests.put(first)
        self._deliveries: SimpleQueue[pb.Delivery | None] = SimpleQueue()
        self._call = open_(iter(self._requests.get, None))
        self._thread = threading.Thread(target=self._read, name="deliveries", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[pb.Delivery]:
        return iter(self._deliveries.get, None)

    @property
    def over(self) -> bool:
        """Say whether nothing goes or comes any more."""
        return self._over.is_set()

    def send(self, request: pb.StreamingPullRequest) -> None:
        """Tell the broker something; it is not heard where the stream is over."""
        self._requests.put(request)

    def finish(self) -> None:
        """Say that nothing more is wanted; what is on its way still comes."""
        self._requests.put(None)

    def close(self) -> None:
        """End at once."""
        self._call.cancel()
        self.finish()
        self._thread.join()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._settled(response.results)
                self._arrived(response.deliveries)
                for delivery in response.deliveries:
                    self._deliveries.put(delivery)
        except grpc.RpcError as error:
            self.error = error
        except Exception:
            logger.exception("A stream of deliveries failed", extra={"action": "failed"})
        finally:
            self._over.set()
            self._requests.put(None)  # or the thread that sends them would wait for ever
            self._deliveries.put(None)
