"""A broker over gRPC with scripted answers: failures that the real one cannot be made to have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from broker_client.generated import broker_pb2 as pb


class Failure(Exception):
    """How a call is to fail; `details` are messages of google.rpc."""

    def __init__(self, code: grpc.StatusCode, message: str = "no", *details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def reason(text: str) -> error_details_pb2.ErrorInfo:
    """Give the broker's own code."""
    return error_details_pb2.ErrorInfo(reason=text, domain="errors.broker.example")


def pause(seconds: int) -> error_details_pb2.RetryInfo:
    """Ask for a wait."""
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))


class LoopbackRpc:
    """Answers `Publish` as `publish` says, which may raise a Failure; `requests` are what came."""

    def __init__(self) -> None:
        self.requests: list[pb.PublishRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.publish: Callable[[pb.PublishRequest], Any] = receipts
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=pb.PublishRequest.FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("broker.v1.Broker", {"Publish": handler}),)
        )
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()

    def _publish(self, request: pb.PublishRequest, context: Any) -> Any:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        try:
            return self.publish(request)
        except Failure as failure:
            if failure.details:
                status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
                for detail in failure.details:
                    packed = AnyMessage()
                    packed.Pack(detail)
                    status.details.append(packed)
                context.set_trailing_metadata(
                    (("grpc-status-details-bin", status.SerializeToString()),)
                )
            context.abort(failure.code, failure.message)


def receipts(request: pb.PublishRequest) -> pb.PublishResponse:
    """Answer as if everything was stored."""
    return pb.PublishResponse(
        messages=[
            pb.Published(id=event.id, sequence=number)
            for number, event in enumerate(request.events, 1)
        ]
    )


def in_turn(*failures: Failure) -> Callable[[pb.PublishRequest], pb.PublishResponse]:
    """Fail in these ways, one after another; then answer."""
    left: Iterator[Failure] = iter(failures)

    def answer(request: pb.PublishRequest) -> pb.PublishResponse:
        failure = next(left, None)
        if failure is not None:
            raise failure
        return receipts(request)

    return answer
