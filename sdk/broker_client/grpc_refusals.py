"""What a failed gRPC call means: the same exceptions, with the same statuses, as over HTTP.

Source: google/rpc/error_details.proto.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker_client.errors import BrokerRefused, BrokerUnavailable
from broker_client.retries import NOT_NOW

# The broker's own words say more than gRPC's codes.
_STATUS_OF_REASON = {"malformed_request": 400, "message_too_large": 413, "storage_full": 507}
_STATUS_OF_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_INTERNAL = 500
# What gRPC says by itself where there was no answer, or half of one.
_NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_TOO_LARGE = "larger than max"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call: gRPC's code and sentence, and what the broker adds to them.

    `reason` is the `code` of the HTTP interface; None where not the broker has answered.
    """

    code: grpc.StatusCode
    detail: str
    reason: str | None = None
    faults: list[dict[str, str]] = field(default_factory=list)
    retry_after_s: float | None = None


def read_failure(error: grpc.RpcError) -> Failure:
    """Read how a call failed."""
    call: Any = error  # every error that a call raises is a grpc.Call as well
    try:
        status = rpc_status.from_call(call)
    except (ValueError, DecodeError):  # details of something else, or none that can be read
        status = None
    info, wrong, pause = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    asked = False
    with suppress(DecodeError):
        for each in () if status is None else status.details:
            each.Unpack(info)
            each.Unpack(wrong)
            asked = each.Unpack(pause) or asked
    return Failure(
        call.code(),
        call.details() or "",
        info.reason or None,
        [{"field": v.field, "message": v.description} for v in wrong.field_violations],
        pause.retry_delay.ToTimedelta().total_seconds() if asked else None,
    )


def meaning_of(failure: Failure, target: str) -> BrokerRefused | BrokerUnavailable:
    """Say which exception a failure is."""
    if failure.reason is None and failure.code in _NO_ANSWER:
        cause = failure.detail or failure.code.name
        return BrokerUnavailable(f"no answer from {target}: {cause}")
    if failure.reason is None and _TOO_LARGE in failure.detail:  # gRPC's own limit of a message
        return BrokerRefused(413, "message_too_large", failure.detail)

    status = _STATUS_OF_REASON.get(
        failure.reason or "", _STATUS_OF_CODE.get(failure.code, _INTERNAL)
    )
    detail = failure.detail or failure.code.name
    if 400 <= status < 500 and status not in NOT_NOW:
        return BrokerRefused(status, failure.reason or "unknown", detail, failure.faults)
    return BrokerUnavailable(
        f"the broker answered {failure.code.name}: {detail}",
        status=status,
        retry_after_s=failure.retry_after_s,
    )
