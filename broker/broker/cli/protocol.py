"""gunicorn's HTTP/1 connection, with the next request held back until the last one is over.

A client that has read an answer may send its next request before gunicorn has made the parser ready
for one. The C parser keeps 64 KiB of such bytes and forgets the rest, and gunicorn then closes the
connection, without a word that it would: one in four requests of 1 MiB failed so.
"""

import asyncio

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi
from gunicorn_h1c import H1CProtocol

HEAD_S = 10.0  # until a new connection has sent the head of a request
PIECE = 64 * 1024  # what the parser keeps behind the end of a request


class Parser(H1CProtocol):  # type: ignore[misc]
    """The C parser; `early` is what has come of the next requests besides what it keeps itself."""

    early = b""

    def feed(self, data: bytes) -> None:
        """Take bytes in, up to the end of a request."""
        if len(data) <= PIECE and not self.is_complete:
            super().feed(data)
            return
        for start in range(0, len(data), PIECE):
            if self.is_complete:
                self.early += data[start:]
                return
            super().feed(data[start : start + PIECE])

    def remaining(self) -> bytes:
        """Return what has come of the next requests."""
        return bytes(super().remaining()) + self.early

    def reset(self) -> None:
        """Be ready for the next request."""
        self.early = b""
        super().reset()


class Protocol(ASGIProtocol):  # type: ignore[misc]
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Give the first request's head some time; gunicorn gives it to the following ones only."""
        super().connection_made(transport)
        self._keepalive_handle = self.worker.loop.call_later(HEAD_S, self._keepalive_timeout)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and read no more for now once some are held back."""
        super().data_received(data)
        parser = self._callback_parser
        if isinstance(parser, Parser) and parser.early:
            self._pause_reading()


def install() -> None:
    """Have gunicorn's worker use these."""
    ASGIProtocol._check_h1c_protocol_available()
    ASGIProtocol._h1c_protocol_class = Parser
    gasgi.ASGIProtocol = Protocol
