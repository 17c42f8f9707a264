"""The line that the audit cuts and holds: what it keeps back comes later, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from support.eventually import eventually
from support.tcp_line import Line

SOON_S, NEVER_S = 5.0, 0.2


class Echo:
    """A server that sends back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while data := connection.recv(100):
                        self.heard += data
                        connection.sendall(data)
                except OSError:
                    continue

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server."""
    running = Echo()
    yield running
    running.close()


@pytest.fixture
def line(echo: Echo) -> Iterator[Line]:
    """A line to it."""
    running = Line([echo.port])
    yield running
    running.close()


@pytest.fixture
def client(line: Line) -> Iterator[socket.socket]:
    """Whoever talks over it; has been answered once."""
    with socket.create_connection(("127.0.0.1", line.ports[0]), timeout=SOON_S) as connected:
        connected.sendall(b"a")
        assert connected.recv(1) == b"a"
        yield connected


def hears_nothing(client: socket.socket) -> bool:
    """Say whether nothing comes for a moment."""
    client.settimeout(NEVER_S)
    try:
        return client.recv(1) == b"never"
    except TimeoutError:
        return True
    finally:
        client.settimeout(SOON_S)


def is_ended(client: socket.socket) -> bool:
    """Say whether the other side has hung up."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_what_was_held_comes_once_the_line_is_mended(
    line: Line, client: socket.socket, echo: Echo
) -> None:
    line.hold()
    client.sendall(b"b")
    assert hears_nothing(client)
    assert echo.heard == b"a"

    line.mend()
    assert client.recv(1) == b"b"


def test_holding_answers_lets_what_is_asked_pass(
    line: Line, client: socket.socket, echo: Echo
) -> None:
    line.hold(answers_only=True)
    client.sendall(b"b")
    eventually(lambda: echo.heard == b"ab")
    assert hears_nothing(client)

    line.mend()
    assert client.recv(1) == b"b"


def test_cut_line_ends_connections_and_takes_no_new_ones(line: Line, client: socket.socket) -> None:
    line.cut()
    assert is_ended(client)
    with socket.create_connection(("127.0.0.1", line.ports[0]), timeout=SOON_S) as refused:
        assert is_ended(refused)

    line.mend()
    with socket.create_connection(("127.0.0.1", line.ports[0]), timeout=SOON_S) as again:
        again.sendall(b"c")
        assert again.recv(1) == b"c"
