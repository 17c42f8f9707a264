"""What is kept of an endpoint's answer, and what the worker is told of it."""

import re

from broker.dispatch.frames import MAX_ANSWER_BYTES, Outcome

MAX_BATCH_ANSWER_BYTES = 64 * 1024
MAX_DISCARDED_BYTES = 256 * 1024

BROKE = "the connection broke before the answer"
CLOSED = "the endpoint closed the connection without an answer"
TOO_LATE = "the endpoint did not answer in time"
NO_HTTP = "the endpoint's answer is not HTTP"

_TOLD = re.compile(rb"(?i)retry-after|webhook-[a-z-]+")


class Answer:
    """An answer as it comes in. Its body may have any length; so much of it is kept as is read.

    A batch's may single out positions, and is longer.
    """

    __slots__ = ("_batch", "body", "headers", "length")

    def __init__(self, *, batch: bool) -> None:
        self._batch = batch
        self.headers: dict[str, str] | None = None
        self.body = b""
        self.length = 0

    def take_header(self, name: bytes, value: bytes) -> None:
        """Keep a header if the worker is told of it."""
        if _TOLD.fullmatch(name):
            self.headers = self.headers or {}
            self.headers[name.decode().lower()] = value.decode("latin-1").strip()

    def take_body(self, chunk: bytes) -> bool:
        """Keep the beginning of the body; say whether more of it may come."""
        room = (MAX_BATCH_ANSWER_BYTES if self._batch else MAX_ANSWER_BYTES) - len(self.body)
        self.body += chunk[: max(room, 0)]
        self.length += len(chunk)
        return self.length <= MAX_DISCARDED_BYTES

    def outcome(self, job: int, status: int, duration_ms: int) -> Outcome:
        """Tell the worker."""
        headers = self.headers
        if headers is None and (self._batch or not 200 <= status < 300):
            headers = {}
        return Outcome(job, status, "", duration_ms, headers, self.body)
