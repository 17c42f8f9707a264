"""A DNS server on a loopback address, and how a process is made to ask it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from dnslib import QTYPE, RCODE, RR, A
from dnslib.server import DNSHandler, DNSLogger, DNSRecord, DNSServer

# Not the one that a machine's own resolver listens on.
ADDRESS = "127.7.7.53"
PORT = 53

Answers = Callable[[str, int], Sequence[str]]
"""The addresses of a name, at the so-manieth time that it is asked for, from 1 on."""


class Names:
    """Answers what a test has it answer, to be remembered by nobody."""

    def __init__(self, answers: Answers) -> None:
        self.asked: Counter[str] = Counter()
        self._answers = answers
        self._lock = threading.Lock()

    def resolve(self, request: DNSRecord, _: DNSHandler) -> DNSRecord:
        """Answer one question."""
        reply = request.reply()
        name = str(request.q.qname).rstrip(".")
        if request.q.qtype != QTYPE.A:
            return reply
        with self._lock:
            self.asked[name] += 1
            times = self.asked[name]
        addresses = self._answers(name, times)
        if not addresses:
            reply.header.rcode = RCODE.NXDOMAIN
        for address in addresses:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=0))
        return reply


class RunningDns:
    """The server, while it runs."""

    def __init__(self, answers: Answers) -> None:
        self.names = Names(answers)
        quiet = DNSLogger(log="-recv,-send,-request,-reply,-truncated,-error", prefix=False)
        self._server = DNSServer(self.names, address=ADDRESS, port=PORT, logger=quiet)

    def __enter__(self) -> RunningDns:
        self._server.start_thread()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self._server.server.server_close()


def asking_it(folder: Path) -> tuple[str, ...]:
    """Return what a command is begun with so that its process asks this server, and no other.

    It has a mount namespace of its own, which only root may make.
    """
    configuration = folder / "resolv.conf"
    configuration.write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, str(configuration))
