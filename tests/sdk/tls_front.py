"""What ends TLS in front of a broker, as a proxy does, with a certificate that nobody trusts."""

from __future__ import annotations

import socket
import ssl
import threading
from types import TracebackType
from typing import Self

from support.endpoint import SELF_SIGNED


class TlsFront:
    """Decrypts what comes to `port` on localhost, and passes it on to another port."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(SELF_SIGNED)
        self._context.set_alpn_protocols(["h2"])
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port = int(self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in list(self._open):
            _shut(each)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            try:
                theirs = self._context.wrap_socket(plain, server_side=True)
            except OSError:  # who does not trust the certificate goes
                plain.close()
                continue
            ours = socket.create_connection(("127.0.0.1", self._to_port))
            self._open += [theirs, ours]
            for one, other in ((theirs, ours), (ours, theirs)):
                thread = threading.Thread(target=_pass_on, args=(one, other), daemon=True)
                thread.start()
                self._threads.append(thread)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass  # one of the two is gone, and so is the way
    _shut(one)
    _shut(other)


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was shut before
