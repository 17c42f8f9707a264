"""An endpoint at which nobody listens."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bench.server_process import HOST


@contextmanager
def refusing_port() -> Iterator[int]:
    """Keep a port on which nobody listens: connections to it are refused."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield int(bound.getsockname()[1])
