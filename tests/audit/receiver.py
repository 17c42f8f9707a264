"""The receiver: a webhook endpoint of the audit's own, a process that can be killed and paused."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from audit.ledger import Arrival, Ledger
from audit.messages import data_of
from audit.moods import MoodFile, Reaction, react
from audit.subscriptions import AUDITED, CONTENT_TYPE, Audited, secrets
from broker_client import BrokerClientError, Delivery, verify
from broker_client.delivery import read_deliveries
from broker_client.formats import media_type

LEDGER, MOODS = "receiver.db", "moods.json"


class Receiver(ThreadingHTTPServer):
    """Writes down what it receives, and answers as its mood is."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path, seed: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ledger = Ledger(folder / LEDGER)
        self._moods = MoodFile(folder / MOODS)
        self._seed = seed
        self._secrets = secrets(seed)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Take a caller who hangs up for granted, and complain of everything else."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.ledger.complain(f"the receiver failed: {error!r}")

    def read(self, topic: str, name: str, headers: dict[str, str], body: bytes) -> list[Delivery]:
        """Read a request. Raises BrokerClientError for one that is not signed, or no events."""
        verify(self._secrets, headers, body)
        deliveries = read_deliveries(topic, headers, body)
        if media_type(headers) != CONTENT_TYPE[AUDITED[name].format]:
            self.ledger.complain(f"{name} got {headers.get('content-type')}")
        for each in deliveries:
            event = each.event
            if event.data != data_of(event.id, event.partitionkey):
                self.ledger.complain(f"{event.id} came to {name} with other data than it has")
        return deliveries

    def reaction(self, name: str, deliveries: Sequence[Delivery]) -> Reaction:
        """Decide about a request; the same one is decided alike, in the same mood."""
        first = deliveries[0]
        random = Random(f"{self._seed}/{name}/{first.webhook_id}/{first.attempt}")
        keys = [each.event.partitionkey for each in deliveries]
        return react(self._moods.read(name), keys, random)

    def write(
        self, topic: str, name: str, deliveries: Sequence[Delivery], reaction: Reaction
    ) -> bool:
        """Write a request down; say whether some of it is new. Hold the ledger's lock."""
        request = self.ledger.next_request()
        arrivals = [
            Arrival(
                request=request,
                topic=topic,
                subscription=name,
                id=each.event.id,
                key=each.event.partitionkey,
                sequence=each.sequence or 0,
                attempt=each.attempt,
                took=reaction.takes and position not in reaction.refused,
                acknowledged=reaction.acknowledges and position not in reaction.refused,
            )
            for position, each in enumerate(deliveries)
        ]
        return self.ledger.write(arrivals, [each.event for each in deliveries])


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the broker was killed while it sent
            self.close_connection = True
            return

        topic, _, name = self.path.strip("/").partition("/")
        audited = AUDITED[name]
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            deliveries = self.server.read(topic, name, headers, body)
        except BrokerClientError as error:
            self.server.ledger.complain(f"{topic}/{name} got what cannot be read: {error}")
            self._answer(400)
            return
        self._take(topic, audited, deliveries)

    def _take(self, topic: str, audited: Audited, deliveries: Sequence[Delivery]) -> None:
        reaction = self.server.reaction(audited.name, deliveries)
        with self.server.ledger.lock:
            if not audited.retried and self._caller_is_gone():
                self.close_connection = True
                return
            fresh = self.server.write(topic, audited.name, deliveries, reaction)
        time.sleep(reaction.delay_s)

        if reaction.hang_up:
            self.close_connection = True
            return
        headers, content = {}, b""
        if reaction.retry_after_s is not None:
            headers["Retry-After"] = str(reaction.retry_after_s)
        if audited.receipts and reaction.acknowledges:
            headers["Webhook-Receipt"] = "processed" if fresh else "duplicate"
        if reaction.refused:
            content = json.dumps({"retry": list(reaction.refused)}).encode()
        self._answer(reaction.status, headers, content)

    def _caller_is_gone(self) -> bool:
        """Say whether nobody waits for the answer any more.

        A broker that has given a request up, or was killed, goes on to the next of its key. Where
        that is no duplicate but a first delivery, as at most once, an endpoint that was paused must
        leave what lies in its sockets from before, or it would read both in any order.
        """
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, content: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the ledger is the log."""


def main() -> int:
    """Receive until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m audit.receiver", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()

    receiver = Receiver(options.port, options.folder, options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    receiver.serve_forever(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
