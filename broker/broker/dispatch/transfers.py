"""Requests that libcurl makes: those over TLS, and whatever else is not plain."""

import contextlib
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pycurl

from broker.dispatch.answer import BROKE, CLOSED, MAX_DISCARDED_BYTES, TOO_LATE, Answer
from broker.dispatch.connections import Connections
from broker.dispatch.frames import Ask, Endpoint, Job, Outcome
from broker.dispatch.request import request_of
from broker.targets import AllowedTargets
from broker.tls import Tls

CONNECT_TIMEOUT_MS = 10_000
# libcurl fills a buffer for each request, and each handle keeps its own: by default 64 KiB.
SMALL_BODY_BYTES = 12 * 1024
SMALL_BUFFER_BYTES, LARGE_BUFFER_BYTES = 16 * 1024, 64 * 1024

_ERRORS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the endpoint's name does not resolve",
    pycurl.E_COULDNT_CONNECT: "the endpoint refused the connection",
    pycurl.E_OPERATION_TIMEDOUT: TOO_LATE,
    pycurl.E_GOT_NOTHING: CLOSED,
    pycurl.E_RECV_ERROR: BROKE,
    pycurl.E_ABORTED_BY_CALLBACK: BROKE,
    pycurl.E_SEND_ERROR: "the connection broke while sending",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "the endpoint's TLS certificate cannot be trusted",
    pycurl.E_SSL_CACERT_BADFILE: "the broker's certificate authorities cannot be read",
    pycurl.E_SSL_CERTPROBLEM: "the broker's client certificate cannot be used",
}


class Transfer:
    """One reusable handle and what its present request has met."""

    __slots__ = (
        "answer",
        "curl",
        "endpoint",
        "headers",
        "job",
        "kept",
        "may_send",
        "sent",
        "started",
        "vetoed",
    )

    def __init__(self, curl: pycurl.Curl, endpoint: Endpoint, may_send: Callable[[], bool]) -> None:
        self.curl = curl
        self.endpoint = endpoint
        self.may_send = may_send
        self.kept = True  # for further requests
        self.headers: list[bytes] = []
        self.begin(0)

    def begin(self, job: int) -> None:
        """Forget the request before."""
        self.headers.clear()
        self.answer = Answer(batch=self.endpoint.format == "batch")
        self.vetoed = ""
        self.job = job
        self.sent = False
        self.started = time.monotonic()

    def let_go_once(self, *_: object) -> int:
        """Let the request leave once, and in time.

        Where a connection that was used before breaks without an answer, libcurl sends the same
        request again over a new one, although the endpoint may have got the first. And to connect
        may take longer than the worker may send: who has taken over may have sent what comes after.
        """
        if self.sent or not self.may_send():
            return int(pycurl.PREREQFUNC_ABORT)
        self.sent = True
        return int(pycurl.PREREQFUNC_OK)

    def receive(self, chunk: bytes) -> int:
        """Keep the beginning of the answer; end a transfer that does not stop sending."""
        return len(chunk) if self.answer.take_body(chunk) else 0

    def reason(self, error: int) -> str:
        """Say why it failed."""
        return self.vetoed or _ERRORS.get(error, f"the request failed (libcurl {error})")

    def outcome(self, error: int) -> Outcome:
        """Say how the request ended."""
        took = round((time.monotonic() - self.started) * 1000)
        answer = self.answer
        too_long = error == pycurl.E_WRITE_ERROR and answer.length > MAX_DISCARDED_BYTES
        if error and not too_long:
            return Outcome(self.job, 0, self.reason(error), took)
        head = _head_in(self.headers)
        if head is None:
            return Outcome(self.job, 0, BROKE, took)
        for line in head:
            name, _, value = line.partition(b":")
            answer.take_header(name, value)
        return answer.outcome(self.job, self.curl.getinfo(pycurl.RESPONSE_CODE), took)


class Transfers:
    """The transfers under way, and those that are kept for further requests.

    `endpoints` are those that there are at present, by id.
    """

    def __init__(
        self,
        endpoints: Mapping[int, Endpoint],
        connections: Connections,
        targets: AllowedTargets,
        user_agent: str,
        tls: Tls,
        may_send: Callable[[], bool],
    ) -> None:
        self._endpoints = endpoints
        self._connections = connections
        self._targets = targets
        self._user_agent = user_agent
        self._tls = _options(tls)
        self._may_send = may_send
        self._free: defaultdict[int, list[Transfer]] = defaultdict(list)
        self._busy: dict[pycurl.Curl, Transfer] = {}
        self._opening: dict[pycurl.Curl, tuple[Transfer, Callable[[int, str], None]]] = {}

    def forget(self, endpoint: int) -> None:
        """Keep nothing for an endpoint that has changed or is gone."""
        self._free.pop(endpoint, None)

    def start(self, job: Job, endpoint: Endpoint) -> None:
        """Make a request."""
        free = self._free[endpoint.id]
        transfer = free.pop() if free else self._new(endpoint)
        transfer.begin(job.id)
        headers, body = request_of(endpoint, job, time.time())
        curl = transfer.curl
        curl.setopt(pycurl.HTTPHEADER, [*_lines(headers), *_lines(endpoint.headers), "expect:"])
        curl.setopt(pycurl.POSTFIELDS, body)
        small = len(body) <= SMALL_BODY_BYTES
        curl.setopt(pycurl.UPLOAD_BUFFERSIZE, SMALL_BUFFER_BYTES if small else LARGE_BUFFER_BYTES)
        self._begin(transfer)

    def ask(self, ask: Ask, endpoint: Endpoint) -> None:
        """Ask an endpoint for its consent."""
        transfer = self._new(endpoint)
        transfer.kept = False
        transfer.begin(ask.id)
        transfer.curl.setopt(pycurl.HTTPGET, 1)
        transfer.curl.setopt(pycurl.CUSTOMREQUEST, "OPTIONS")
        transfer.curl.setopt(pycurl.HTTPHEADER, _lines(ask.headers))
        self._begin(transfer)

    def open(self, endpoint: Endpoint, opened: Callable[[int, str], None]) -> None:
        """Open a connection to an endpoint, and hand it over.

        `opened` is called with a descriptor of its own, or -1 and the reason why there is none.
        """
        transfer = self._new(endpoint)
        transfer.curl.setopt(pycurl.CONNECT_ONLY, 1)
        transfer.curl.setopt(pycurl.FRESH_CONNECT, 1)
        self._opening[transfer.curl] = (transfer, opened)
        self._connections.add(transfer.curl, endpoint.id)

    def _begin(self, transfer: Transfer) -> None:
        self._busy[transfer.curl] = transfer
        self._connections.add(transfer.curl, transfer.endpoint.id)

    def ended(self) -> Iterator[Outcome]:
        """Yield the outcome of each request that has ended."""
        for curl, error in self._connections.ended():
            if (opening := self._opening.pop(curl, None)) is not None:
                self._hand_over(*opening, error)
                continue
            transfer = self._busy.pop(curl)
            outcome = transfer.outcome(error)
            self._connections.remove(curl, transfer.endpoint.id)
            if transfer.kept and self._endpoints.get(transfer.endpoint.id) is transfer.endpoint:
                self._free[transfer.endpoint.id].append(transfer)
            yield outcome

    def _hand_over(
        self, transfer: Transfer, opened: Callable[[int, str], None], error: int
    ) -> None:
        curl, descriptor, reason = transfer.curl, -1, ""
        if error:
            reason = transfer.reason(error)
        else:
            theirs = curl.getinfo(pycurl.ACTIVESOCKET)
            try:
                self._connections.let_go(theirs)
                descriptor = os.dup(theirs)
            except (OSError, ValueError) as fault:
                reason = f"the connection cannot be used: {fault}"
        self._connections.remove(curl, transfer.endpoint.id)
        curl.close()
        opened(descriptor, reason)

    def _new(self, endpoint: Endpoint) -> Transfer:
        curl = pycurl.Curl()
        transfer = Transfer(curl, endpoint, self._may_send)
        host = host_of(endpoint.url)

        def open_socket(_: int, address: tuple[int, int, int, tuple[str, int]]) -> object:
            family, kind, protocol, where = address
            if not self._targets.allow(host, where[0]):
                transfer.vetoed = f"the address {where[0]} is not an allowed target"
                return pycurl.SOCKET_BAD
            return socket.socket(family, kind, protocol)

        for option, value in (
            (pycurl.URL, endpoint.url),
            (pycurl.POST, 1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PROXY, ""),
            (pycurl.CONNECTTIMEOUT_MS, min(CONNECT_TIMEOUT_MS, endpoint.timeout_ms)),
            (pycurl.TIMEOUT_MS, endpoint.timeout_ms),
            (pycurl.USERAGENT, self._user_agent),
            (pycurl.HEADERFUNCTION, transfer.headers.append),
            (pycurl.WRITEFUNCTION, transfer.receive),
            (pycurl.OPENSOCKETFUNCTION, open_socket),
        ):
            curl.setopt(option, value)
        if endpoint.url[:6].lower() == "https:":
            for option, file in self._tls:
                curl.setopt(option, file)
        if endpoint.once:
            curl.setopt(pycurl.PREREQFUNCTION, transfer.let_go_once)
        return transfer


def _head_in(lines: Sequence[bytes]) -> Sequence[bytes] | None:
    """Return the head of the answer itself, of what came before, with and after it.

    None where it did not come to its end: libcurl takes such an answer for one.
    """
    begins = max((place for place, line in enumerate(lines) if line[:5] == b"HTTP/"), default=0)
    head = lines[begins:]
    ends = next((place for place, line in enumerate(head) if line in (b"\r\n", b"\n")), None)
    return None if ends is None else head[:ends]


def _lines(lines: Sequence[str]) -> list[str]:
    """Write headers as libcurl takes them, which drops one with nothing after the colon."""
    return [
        line if line[-1] != " " or line.partition(":")[2].strip() else line.partition(":")[0] + ";"
        for line in lines
    ]


def _options(tls: Tls) -> list[tuple[int, str | None]]:
    """Say in libcurl's terms whom to trust and what to show."""
    options: list[tuple[int, str | None]] = []
    if tls.authorities_folder is not None:
        options += [(pycurl.CAINFO, None), (pycurl.CAPATH, tls.authorities_folder)]
    files = tls.authorities if len(tls.authorities) < 2 else [_joined(tls.authorities)]
    options += [(pycurl.CAINFO, file) for file in files]
    if tls.certificate is not None and tls.key is not None:
        options += [(pycurl.SSLCERT, tls.certificate), (pycurl.SSLKEY, tls.key)]
    return options


def _joined(files: list[str]) -> str:
    """Put files into one, in memory: libcurl reads one, and keeps what it has read of it."""
    descriptor = os.memfd_create("authorities")
    with open(descriptor, "wb", closefd=False) as whole:
        for file in files:
            with contextlib.suppress(OSError):  # it was there at the start; now nobody is trusted
                whole.write(Path(file).read_bytes() + b"\n")
    return f"/proc/self/fd/{descriptor}"


def host_of(url: str) -> str:
    """Return the host of an endpoint's URL, an address without its brackets."""
    authority = url.split("://", 1)[1].split("/", 1)[0].split("?", 1)[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]
