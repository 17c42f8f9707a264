"""The broker's doors, alike: what one can do over HTTP and over gRPC, with the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.generated.cloudevents_pb2 import CloudEvent
from support.api import Api
from support.cloudevent import Json, event
from support.problem import read_problem

GRPC_CODES = {
    404: grpc.StatusCode.NOT_FOUND,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
}


@dataclass
class Refused(Exception):
    """What any door says of a refusal."""

    code: str
    detail: str
    fields: list[str]


class Door(Protocol):
    """A way into the broker. Every method raises Refused."""

    def publish(self, topic: str, *attributes: Json) -> list[Json]:
        """Publish events with a JSON null as data; return what is said of each."""

    def call(self, name: str, **request: Any) -> Any:
        """Call one of the calls below by its name in the protocol; return its answer as JSON."""


class HttpDoor:
    """HTTP."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def publish(self, topic: str, *attributes: Json) -> list[Json]:
        batch = [event(**each) for each in attributes]
        answer = self._answer(self._api.publish_batch(topic, batch))
        return list(answer["messages"])

    def call(self, name: str, **request: Any) -> Any:
        return self._answer(getattr(self, f"_{name}")(**request))

    def _put_topic(self, topic: str, config: Json) -> httpx.Response:
        return self._api.put_topic(topic, **config)

    def _get_topic(self, topic: str) -> httpx.Response:
        return self._api.get_topic(topic)

    def _delete_topic(self, topic: str, force: bool = False) -> httpx.Response:
        return self._api.delete_topic(topic, force=force)

    def _list_messages(self, topic: str, **params: Any) -> httpx.Response:
        return self._api.browse(topic, **params)

    def _get_message(self, topic: str, sequence: int) -> httpx.Response:
        return self._api.get_message(topic, sequence)

    def _list_scheduled(self, topic: str, **params: Any) -> httpx.Response:
        return self._api.http.get(f"/v1/topics/{topic}/scheduled", params=params)

    def _get_scheduled(self, topic: str, id: str, source: str) -> httpx.Response:
        return self._api.get_scheduled(topic, id, source)

    def _cancel_scheduled(self, topic: str, id: str, source: str) -> httpx.Response:
        return self._api.cancel_scheduled(topic, id, source)

    def _put_subscription(self, topic: str, subscription: str, config: Json) -> httpx.Response:
        return self._api.put_subscription(topic, subscription, **config)

    def _get_subscription(self, topic: str, subscription: str) -> httpx.Response:
        return self._api.get_subscription(topic, subscription)

    def _list_subscriptions(self, topic: str) -> httpx.Response:
        return self._api.list_subscriptions(topic)

    def _delete_subscription(self, topic: str, subscription: str) -> httpx.Response:
        return self._api.delete_subscription(topic, subscription)

    def _pause(self, topic: str, subscription: str) -> httpx.Response:
        return self._api.act(topic, "pause", subscription)

    def _resume(self, topic: str, subscription: str) -> httpx.Response:
        return self._api.act(topic, "resume", subscription)

    def _rotate_secret(self, topic: str, subscription: str, **body: Any) -> httpx.Response:
        return self._api.act(topic, "rotate-secret", subscription, body)

    def _seek(
        self, topic: str, subscription: str, dry_run: bool = False, **to: Any
    ) -> httpx.Response:
        body: Json = {"dry_run": dry_run}
        for value in to.values():
            body["to"] = value
        return self._api.act(topic, "seek", subscription, body)

    def _list_deliveries(self, topic: str, subscription: str, state: str) -> httpx.Response:
        return self._api.look(topic, "deliveries", subscription, {"state": state})

    def _retry_delivery(self, topic: str, subscription: str, sequence: int) -> httpx.Response:
        return self._api.act(topic, f"deliveries/{sequence}/retry", subscription)

    def _dead_letter_delivery(self, topic: str, subscription: str, sequence: int) -> httpx.Response:
        return self._api.act(topic, f"deliveries/{sequence}/dead-letter", subscription)

    def _list_attempts(self, topic: str, subscription: str, sequence: int) -> httpx.Response:
        return self._api.look(topic, f"messages/{sequence}/attempts", subscription)

    def _list_dead_letters(self, topic: str, subscription: str) -> httpx.Response:
        return self._api.look(topic, "dead-letters", subscription)

    def _get_dead_letter(self, topic: str, subscription: str, sequence: int) -> httpx.Response:
        return self._api.look(topic, f"dead-letters/{sequence}", subscription)

    def _replay_dead_letters(self, topic: str, subscription: str, **body: Any) -> httpx.Response:
        return self._api.act(topic, "dead-letters/replay", subscription, body)

    def _delete_dead_letter(self, topic: str, subscription: str, sequence: int) -> httpx.Response:
        return self._api.drop_dead_letter(topic, sequence, subscription)

    @staticmethod
    def _answer(answer: httpx.Response) -> Any:
        if not answer.is_success:
            problem = read_problem(answer, answer.status_code)
            raise Refused(problem.code, problem.detail, problem.fields)
        return answer.json() if answer.content else None


class RpcDoor:
    """gRPC. `stub` is the generated client, for what this class does not say."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = BrokerStub(self.channel)
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def publish(self, topic: str, *attributes: Json) -> list[Json]:
        events = [to_proto(event(**each)) for each in attributes]
        response = self._call("Publish", pb.PublishRequest(topic=topic, events=events))
        return [
            {
                "id": each.id,
                "sequence": each.sequence if each.HasField("sequence") else None,
                "duplicate": each.duplicate,
            }
            for each in response.messages
        ]

    def call(self, name: str, **request: Any) -> Any:
        method = "".join(part.title() for part in name.split("_"))
        input_type = pb.DESCRIPTOR.services_by_name["Broker"].methods_by_name[method].input_type
        kind = getattr(pb, input_type.name, Empty)
        answer = self._call(method, kind(**request))
        return None if isinstance(answer, Empty) else _plain(answer)

    def _call(self, method: str, request: Message) -> Any:
        try:
            return getattr(self.stub, method)(request, timeout=15, metadata=self._metadata)
        except grpc.RpcError as error:
            raise refused(error) from None


def refused(error: grpc.RpcError) -> Refused:
    """Read the details of a refusal."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, error
    info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(wrong)
    assert info.domain == "errors.broker.example"
    return Refused(info.reason, status.message, [each.field for each in wrong.field_violations])


def to_proto(structured: Json) -> CloudEvent:
    """Put a structured event into the Protobuf format, its data as JSON."""
    fields = {"specversion": "spec_version", "id": "id", "source": "source", "type": "type"}
    own = {fields[name]: value for name, value in structured.items() if name in fields}
    others = {
        name: CloudEvent.CloudEventAttributeValue(ce_string=str(value))
        for name, value in structured.items()
        if name not in fields and name != "data"
    }
    return CloudEvent(**own, attributes=others, text_data="null")


def _plain(answer: Message) -> Any:
    found = MessageToDict(answer, preserving_proto_field_name=True)
    return _numbers(found)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isdigit() else value
