"""The broker's receipts for what was published over HTTP."""

from collections.abc import Mapping
from typing import Any

from broker_client.answers import Answer
from broker_client.errors import BrokerUnavailable
from broker_client.names import check_name
from broker_client.publishing import Published


def messages_path(topic: str) -> str:
    """Return where a topic's messages are published. Raises ValueError for what is no name."""
    return f"/v1/topics/{check_name('topic', topic)}/messages"


def read_receipt(answer: Answer) -> Published:
    """Read the receipt for one event. Raises BrokerUnavailable for what is none."""
    return _receipt(answer, answer.document)


def read_receipts(answer: Answer, count: int) -> list[Published]:
    """Read the receipts for a batch of `count` events. Raises BrokerUnavailable."""
    messages = answer.document.get("messages") if isinstance(answer.document, Mapping) else None
    if not isinstance(messages, list) or len(messages) != count:
        raise _not_a_receipt(answer)
    return [_receipt(answer, message) for message in messages]


def _receipt(answer: Answer, message: Any) -> Published:
    try:
        return Published(message["id"], message.get("sequence"), message.get("duplicate", False))
    except (KeyError, TypeError, AttributeError):
        raise _not_a_receipt(answer) from None


def _not_a_receipt(answer: Answer) -> BrokerUnavailable:
    return BrokerUnavailable(
        "something other than the broker answered: no receipt", status=answer.status
    )
