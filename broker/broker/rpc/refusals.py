"""Refusals as gRPC has them: a status code, and details of the standard types.

Source: google/rpc/error_details.proto and google/rpc/code.proto.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from broker.errors import BrokerError
from broker.rpc.generated.broker_pb2 import Fault, Refusal

DOMAIN = "errors.broker.example"
DETAILS = "grpc-status-details-bin"
_BY_CODE: Mapping[str, int] = {
    "id_reused": code_pb2.ALREADY_EXISTS,
    "key_name_taken": code_pb2.ALREADY_EXISTS,
    "edit_conflict": code_pb2.ABORTED,
    "storage_full": code_pb2.RESOURCE_EXHAUSTED,
    "message_too_large": code_pb2.INVALID_ARGUMENT,
}
_BY_STATUS: Mapping[int, int] = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    409: code_pb2.FAILED_PRECONDITION,
    413: code_pb2.INVALID_ARGUMENT,
    422: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    503: code_pb2.UNAVAILABLE,
}


def code_of(error: BrokerError) -> int:
    """Return the google.rpc.Code of a refusal."""
    return _BY_CODE.get(error.code, _BY_STATUS.get(error.status, code_pb2.INTERNAL))


def status_of(error: BrokerError) -> status_pb2.Status:
    """Render a refusal with its details."""
    status = status_pb2.Status(code=code_of(error), message=error.detail)
    _add(status, error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN))
    if error.faults:
        violation = error_details_pb2.BadRequest.FieldViolation
        faults = [violation(field=f.field, description=f.message) for f in error.faults]
        _add(status, error_details_pb2.BadRequest(field_violations=faults))
    if error.retry_after_s is not None:
        delay = Duration(seconds=error.retry_after_s)
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def refusal_of(error: BrokerError) -> Refusal:
    """Render a refusal within a stream that goes on."""
    faults = [Fault(field=f.field, message=f.message) for f in error.faults]
    return Refusal(
        status=code_of(error),
        code=error.code,
        detail=error.detail,
        faults=faults,
        retry_after_s=error.retry_after_s,
    )


def refusal_in(
    said: str, code: grpc.StatusCode, trailer: Iterable[tuple[str, str | bytes]]
) -> Refusal:
    """Read from how a call has ended elsewhere what it would have been refused with in a stream."""
    details = next((value for key, value in trailer if key == DETAILS), None)
    if not isinstance(details, bytes):
        return Refusal(status=code.value[0], code=BrokerError.code, detail=said)
    status = status_pb2.Status.FromString(details)
    refusal = Refusal(status=status.code, code=BrokerError.code, detail=status.message)
    for each in status.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if each.Unpack(info):
            refusal.code = info.reason
        elif each.Unpack(bad):
            faults = [Fault(field=f.field, message=f.description) for f in bad.field_violations]
            refusal.faults.extend(faults)
        elif each.Unpack(retry):
            refusal.retry_after_s = retry.retry_delay.seconds
    return refusal


async def refuse(context: "grpc.aio.ServicerContext[Any, Any]", error: BrokerError) -> None:
    """End a call with a refusal. Raises grpc.aio.AbortError."""
    status = status_of(error)
    code = next(each for each in grpc.StatusCode if each.value[0] == status.code)
    trailer = ((DETAILS, status.SerializeToString()),)
    await context.abort(code, error.detail, trailer)


def _add(status: status_pb2.Status, detail: Any) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
