"""What comes on a connection that a plain request was sent on.

The input is the bytes that the endpoint sends before it closes the connection.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from broker.dispatch.answer import MAX_BATCH_ANSWER_BYTES
from broker.dispatch.frames import (
    MAX_ANSWER_BYTES,
    Endpoint,
    Job,
    Outcome,
    decode_outcomes,
    framed,
    split,
)
from broker.dispatch.plain import PlainRequests
from broker.model import Message

MOST = 64 * 1024  # what a socket pair takes without anybody reading


class Opens:
    """Opens connections to nobody but this process."""

    def __init__(self) -> None:
        self.peers: list[socket.socket] = []

    def open(self, endpoint: Endpoint, opened: Callable[[int, str], None]) -> None:
        """Open one at once."""
        ours, theirs = socket.socketpair()
        self.peers.append(theirs)
        opened(ours.detach(), "")


def check(data: bytes) -> None:
    """Whatever comes, and in whatever pieces, is one outcome of the same status."""
    for format_, most in (("binary", MAX_ANSWER_BYTES), ("batch", MAX_BATCH_ANSWER_BYTES)):
        whole = _outcome(format_, data[:MOST], MOST)
        assert len(whole.body) <= most
        assert whole.status == 0 or 100 <= whole.status < 1000
        assert bool(whole.error) is (whole.status == 0)
        (told,) = split(framed([whole]))
        assert decode_outcomes(told) == [whole]
        if len(data) < 500:
            assert _outcome(format_, data, 1).status == whole.status


def _outcome(format_: str, data: bytes, piece: int) -> Outcome:
    with select.epoll() as epoll:
        opens = Opens()
        plain = PlainRequests(epoll, opens, "broker", lambda: True, lambda: 0.0)
        endpoint = Endpoint(1, "http://x/", format_, [b"k"], [], 1000, [], "m", once=True)
        plain.use(endpoint)
        plain.start(Job(7, 1, 1, [Message(1, None, b'{"id":"1"}', b"1", 0.0)]), endpoint)
        (peer,) = opens.peers
        for start in range(0, len(data), piece):
            try:
                peer.sendall(data[start : start + piece])
            except OSError:
                break  # it has had enough
            _turn(epoll, plain)
        peer.close()
        _turn(epoll, plain)
        outcomes = plain.ended()
        assert [each.job for each in outcomes] == [7]
        assert not epoll.poll(
            0
        )  # the connection is closed, or not watched for what it does not get
        return outcomes[0]


def _turn(epoll: select.epoll, plain: PlainRequests) -> None:
    while events := epoll.poll(0):
        for descriptor, event in events:
            assert plain.hear(descriptor, event)
