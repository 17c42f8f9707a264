"""One request to an endpoint: its header lines, its body and its signature."""

from hashlib import sha256

from broker.cloudevents import binary_headers, structured, structured_batch
from broker.dispatch.frames import Endpoint, Job
from broker.signing import signature_header

_CONTENT_TYPES = {
    "structured": "content-type: application/cloudevents+json; charset=UTF-8",
    "batch": "content-type: application/cloudevents-batch+json; charset=UTF-8",
}


def request_of(endpoint: Endpoint, job: Job, now: float) -> tuple[list[str], bytes]:
    """Render and sign a job: the header lines that are its own, and the body.

    The endpoint's own headers go with each of its requests, and are not among them.
    """
    first = job.messages[0]
    if endpoint.format == "binary":
        headers = binary_headers(first.attributes, first.data, first.seq)
        body = first.data if first.data is not None else b""
        webhook_id = f"{endpoint.webhook_id_prefix}{first.seq}"
    elif endpoint.format == "structured":
        headers = [_CONTENT_TYPES["structured"], f"ce-sequence: {first.seq}"]
        body = structured(first.attributes, first.data, first.seq)
        webhook_id = f"{endpoint.webhook_id_prefix}{first.seq}"
    else:
        headers = [_CONTENT_TYPES["batch"]]
        body = structured_batch(job.messages)
        webhook_id = endpoint.webhook_id_prefix + batch_id([each.seq for each in job.messages])
    timestamp = int(now)
    keys = endpoint.keys
    if len(keys) > 1:
        until = (now + 1, *endpoint.old_keys_until)
        keys = [key for key, end in zip(keys, until, strict=True) if end > now]
    headers += job.headers
    headers += (
        f"webhook-id: {webhook_id}",
        f"webhook-timestamp: {timestamp}",
        f"webhook-signature: {signature_header(keys, webhook_id, timestamp, body)}",
        f"webhook-attempt: {job.attempt}",
    )
    return headers, body


def batch_id(seqs: list[int]) -> str:
    """Name a batch by its members, so that it keeps its name as long as it has the same ones."""
    first, last = seqs[0], seqs[-1]
    if last - first == len(seqs) - 1:
        return f"{first}-{last}"
    members = sha256(",".join(map(str, seqs)).encode()).hexdigest()[:16]
    return f"{first}-{last}-{members}"
