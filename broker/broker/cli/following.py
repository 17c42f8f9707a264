"""Following a topic over whatever ends a stream."""

import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from broker.cli.connection import Connection, Refusal, Unreachable, path_of
from broker.cli.sse import ServerSentEvent, events_in

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 3.0
_PASSING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class Following:
    """One reader of a topic's stream, that knows up to where it has read.

    Raises Refusal for what waiting does not mend: the topic was deleted, the key was revoked.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        query: Mapping[str, str | None],
        note: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._path = path_of("topics", topic)
        self._query = query
        self._note = note
        self._sleep = sleep
        self._after = 0
        self._log = ""
        self._lost = False
        self._pause_s = FIRST_PAUSE_S

    def begin(self, after: int | None, last: int) -> Iterator[list[ServerSentEvent]]:
        """Yield what comes behind a sequence, None for the end of the log less `last`; for ever.

        Raises Unreachable where there is no broker now; later on it is waited for.
        """
        shown = self._topic()
        self._log = shown["created_at"]
        self._after = max(0, shown["last_sequence"] - last) if after is None else after
        while True:
            try:
                yield from self._stream()
            except Unreachable:
                pass
            except Refusal as refusal:
                if refusal.status not in _PASSING:
                    raise
            if not self._lost:
                self._lost = True
                self._note("The stream has ended; connecting again …")
            self._sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _stream(self) -> Iterator[list[ServerSentEvent]]:
        if self._lost:
            self._find_place(self._topic())
        headers = {"Last-Event-ID": str(self._after)}
        with self._connection.stream(f"{self._path}/stream", self._query, headers) as parts:
            if self._lost:
                self._lost = False
                self._note(f"Connected again; going on behind {self._after}.")
            self._pause_s = FIRST_PAUSE_S
            for events in events_in(parts):
                self._after = int(events[-1].id)
                yield events

    def _topic(self) -> Mapping[str, Any]:
        shown: Mapping[str, Any] = self._connection.get(self._path).document()
        return shown

    def _find_place(self, shown: Mapping[str, Any]) -> None:
        """Look whether the log is still the one that was read, and has what was not."""
        if shown["created_at"] != self._log:
            self._log = shown["created_at"]
            self._after = 0
            self._note("The topic is a new one; beginning at its first message.")
        elif shown["last_sequence"] < self._after:
            self._after = shown["last_sequence"]
            self._note(f"The log has lost its end; going on behind {self._after}.")
        elif shown["first_sequence"] > self._after + 1:
            missed = shown["first_sequence"] - self._after - 1
            self._note(f"Retention has removed {missed:,} messages meanwhile.")
