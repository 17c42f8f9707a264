"""The messages that the cases publish."""

import msgspec

MESSAGE_BYTES = 200
BATCH_EVENTS = 100
JSON = "application/json"
BATCH = "application/cloudevents-batch+json"
# publish.lua puts the number of the request in its place.
REQUEST_NUMBER = "@" * 12


def order(size: int = MESSAGE_BYTES) -> bytes:
    """Build a JSON document of the given size in bytes."""
    lines = [{"sku": "A-1", "quantity": 2}, {"sku": "B-2", "quantity": 1}]
    document = {"order": 12345, "customer": "c-998877", "lines": lines, "note": ""}
    padding = size - len(msgspec.json.encode(document))
    return msgspec.json.encode(document | {"note": "x" * padding})


def numbered(index: int, size: int = MESSAGE_BYTES) -> bytes:
    """Build a JSON document that tells the stopwatch which one it is."""
    padding = size - len(msgspec.json.encode({"index": index, "note": ""}))
    return msgspec.json.encode({"index": index, "note": "x" * padding})


def batch(events: int = BATCH_EVENTS) -> bytes:
    """Build a request with many events, each with an id of its own in each request."""
    data = msgspec.Raw(order())
    attributes = {"specversion": "1.0", "source": "/bench", "type": "order.created"}
    return msgspec.json.encode(
        [
            attributes | {"id": f"{REQUEST_NUMBER}-{position:02}", "data": data}
            for position in range(events)
        ]
    )


def padded(size: int) -> bytes:
    """Build a JSON document of any size in bytes, from 11 on."""
    return b'{"note":"%s"}' % (b"x" * (size - len(b'{"note":""}')))
