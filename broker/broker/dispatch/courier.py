"""The courier: a child process that signs requests and makes them.

It owns no storage and takes no decisions. It ends when the worker does: the socket between them
closes, and on Linux the kernel ends it at once. libcurl moves all transfers on in one thread and is
told by epoll which sockets have something, so that its cost depends on the transfers that move and
not on those that wait.
"""

import contextlib
import ctypes
import os
import re
import select
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pycurl

from broker.boot_time import boot_time
from broker.cloudevents import binary_headers, structured
from broker.dispatch.connections import Connections
from broker.dispatch.frames import (
    MAX_ANSWER_BYTES,
    Ask,
    Endpoint,
    Forget,
    Introduction,
    Job,
    Outcome,
    Until,
    decode_for_courier,
    framed,
    split,
)
from broker.signing import signature_header
from broker.targets import parse_allowed_targets
from broker.tls import Tls

MAX_BATCH_ANSWER_BYTES = 64 * 1024
MAX_DISCARDED_BYTES = 256 * 1024
CONNECT_TIMEOUT_MS = 10_000
# libcurl fills a buffer for each request, and each handle keeps its own: by default 64 KiB.
SMALL_BODY_BYTES = 12 * 1024
SMALL_BUFFER_BYTES, LARGE_BUFFER_BYTES = 16 * 1024, 64 * 1024

_PR_SET_PDEATHSIG = 1
_TOLD_HEADERS = re.compile(rb"(?i)(retry-after|webhook-[a-z-]+):[ \t]*([^\r\n]*)")
_CONTENT_TYPES = {
    "structured": "content-type: application/cloudevents+json; charset=UTF-8",
    "batch": "content-type: application/cloudevents-batch+json; charset=UTF-8",
}
_ERRORS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the endpoint's name does not resolve",
    pycurl.E_COULDNT_CONNECT: "the endpoint refused the connection",
    pycurl.E_OPERATION_TIMEDOUT: "the endpoint did not answer in time",
    pycurl.E_GOT_NOTHING: "the endpoint closed the connection without an answer",
    pycurl.E_RECV_ERROR: "the connection broke before the answer",
    pycurl.E_ABORTED_BY_CALLBACK: "the connection broke before the answer",
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
        "discarded",
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
        self.answer = b""
        self.discarded = 0
        self.vetoed = ""
        self.job = 0
        self.sent = False
        self.started = 0.0

    def begin(self, job: int) -> None:
        """Forget the request before."""
        self.headers.clear()
        self.answer = b""
        self.discarded = 0
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
        batch = self.endpoint.format == "batch"
        room = (MAX_BATCH_ANSWER_BYTES if batch else MAX_ANSWER_BYTES) - len(self.answer)
        self.answer += chunk[: max(room, 0)]
        self.discarded += len(chunk)
        return len(chunk) if self.discarded <= MAX_DISCARDED_BYTES else 0

    def outcome(self, error: int) -> Outcome:
        """Say how the request ended."""
        took = round((time.monotonic() - self.started) * 1000)
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        too_long = error == pycurl.E_WRITE_ERROR and self.discarded > MAX_DISCARDED_BYTES
        if error and not too_long:
            reason = self.vetoed or _ERRORS.get(error, f"the request failed (libcurl {error})")
            return Outcome(self.job, 0, reason, took)
        if b"\r\n" not in self.headers:  # libcurl takes an answer cut off in its headers for one
            return Outcome(self.job, 0, _ERRORS[pycurl.E_RECV_ERROR], took)
        told = [_TOLD_HEADERS.match(line) for line in self.headers if line[:1] in b"wWrR"]
        headers = {
            match[1].decode().lower(): match[2].decode("latin-1").strip() for match in told if match
        }
        if 200 <= status < 300 and not headers and self.endpoint.format != "batch":
            return Outcome(self.job, status, "", took, None, self.answer)
        return Outcome(self.job, status, "", took, headers, self.answer)


class Courier:
    """Takes jobs from the worker, tells it their outcomes."""

    def __init__(self, peer: socket.socket, introduction: Introduction) -> None:
        self._peer = peer
        self._targets = parse_allowed_targets(introduction.allowed_targets)
        self._user_agent = introduction.user_agent
        self._tls = _options(introduction.tls)
        self._until = introduction.may_send_until
        self._waiting: list[Job | Ask] = []
        self._endpoints: dict[int, Endpoint] = {}
        self._free: defaultdict[int, list[Transfer]] = defaultdict(list)
        self._busy: dict[pycurl.Curl, Transfer] = {}
        self._buffer = bytearray()
        self._epoll = select.epoll()
        self._epoll.register(peer.fileno(), select.EPOLLIN)
        self._connections = Connections(self._epoll)

    def run(self) -> None:
        """Work until the worker is gone."""
        peer = self._peer.fileno()
        while True:
            for descriptor, events in self._epoll.poll(self._connections.wait_s(), 512):
                if descriptor != peer:
                    self._connections.hear(descriptor, events)
                elif not self._receive():
                    return
            outcomes = [self._end(*ended) for ended in self._connections.ended()]
            if outcomes:
                self._peer.sendall(framed(outcomes))

    def _receive(self) -> bool:
        data = self._peer.recv(1 << 20)
        self._buffer += data
        for body in split(self._buffer):
            frame = decode_for_courier(body)
            if isinstance(frame, Endpoint):
                self._endpoints[frame.id] = frame
                self._free.pop(frame.id, None)
            elif isinstance(frame, Forget):
                self._endpoints.pop(frame.id, None)
                self._free.pop(frame.id, None)
            elif isinstance(frame, Until):
                self._until = frame.time
                waiting, self._waiting = self._waiting, []
                self._start_all(waiting)
            elif isinstance(frame, Ask):
                self._start_all([frame])
            else:
                self._start_all(frame.jobs)
        return bool(data)

    def _start_all(self, jobs: Sequence[Job | Ask]) -> None:
        """Start jobs, or keep them until the worker may send again."""
        for job in jobs:
            # Asked each time: this process may have been stopped since the last.
            if self._may_send():
                self._start(job)
            else:
                self._waiting.append(job)

    def _may_send(self) -> bool:
        return self._until is None or boot_time() < self._until

    def _start(self, job: Job | Ask) -> None:
        endpoint = self._endpoints.get(job.endpoint)
        if endpoint is None:  # forgotten while the job waited
            self._peer.sendall(framed([Outcome(job.id, 0, "the subscription is gone")]))
            return
        if isinstance(job, Ask):
            self._ask(job, endpoint)
            return
        free = self._free[job.endpoint]
        transfer = free.pop() if free else self._new_transfer(endpoint)
        transfer.begin(job.id)
        headers, body = _request(endpoint, job, time.time())
        transfer.curl.setopt(pycurl.HTTPHEADER, headers)
        transfer.curl.setopt(pycurl.POSTFIELDS, body)
        small = len(body) <= SMALL_BODY_BYTES
        buffer_bytes = SMALL_BUFFER_BYTES if small else LARGE_BUFFER_BYTES
        transfer.curl.setopt(pycurl.UPLOAD_BUFFERSIZE, buffer_bytes)
        self._busy[transfer.curl] = transfer
        self._connections.add(transfer.curl, transfer.endpoint.id)

    def _ask(self, ask: Ask, endpoint: Endpoint) -> None:
        transfer = self._new_transfer(endpoint)
        transfer.kept = False
        transfer.begin(ask.id)
        transfer.curl.setopt(pycurl.HTTPGET, 1)
        transfer.curl.setopt(pycurl.CUSTOMREQUEST, "OPTIONS")
        transfer.curl.setopt(pycurl.HTTPHEADER, ask.headers)
        self._busy[transfer.curl] = transfer
        self._connections.add(transfer.curl, transfer.endpoint.id)

    def _new_transfer(self, endpoint: Endpoint) -> Transfer:
        curl = pycurl.Curl()
        transfer = Transfer(curl, endpoint, self._may_send)

        def open_socket(_: int, address: tuple[int, int, int, tuple[str, int]]) -> object:
            family, kind, protocol, where = address
            if not self._targets.allow(_host(endpoint.url), where[0]):
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

    def _end(self, curl: pycurl.Curl, error: int) -> Outcome:
        transfer = self._busy.pop(curl)
        outcome = transfer.outcome(error)
        self._connections.remove(curl, transfer.endpoint.id)
        if transfer.kept and self._endpoints.get(transfer.endpoint.id) is transfer.endpoint:
            self._free[transfer.endpoint.id].append(transfer)
        return outcome


def _request(endpoint: Endpoint, job: Job, now: float) -> tuple[list[str], bytes]:
    """Render and sign one request: its header lines and its body."""
    first = job.items[0]
    if endpoint.format == "binary":
        headers = binary_headers(first.attributes, first.data, first.seq)
        body = first.data if first.data is not None else b""
        webhook_id = f"{endpoint.webhook_id_prefix}{first.seq}"
    elif endpoint.format == "structured":
        headers = [_CONTENT_TYPES["structured"], f"ce-sequence: {first.seq}"]
        body = structured(first.attributes, first.data, first.seq)
        webhook_id = f"{endpoint.webhook_id_prefix}{first.seq}"
    else:
        headers = [_CONTENT_TYPES["batch"]]
        events = [structured(item.attributes, item.data, item.seq) for item in job.items]
        body = b"[%s]" % b",".join(events)
        webhook_id = endpoint.webhook_id_prefix + batch_id([item.seq for item in job.items])
    timestamp = int(now)
    keys = endpoint.keys
    if len(keys) > 1:
        until = (now + 1, *endpoint.old_keys_until)
        keys = [key for key, end in zip(keys, until, strict=True) if end > now]
    headers += endpoint.headers
    headers += job.headers
    headers += (
        f"webhook-id: {webhook_id}",
        f"webhook-timestamp: {timestamp}",
        f"webhook-signature: {signature_header(keys, webhook_id, timestamp, body)}",
        f"webhook-attempt: {job.attempt}",
        "expect:",
    )
    return headers, body


def batch_id(seqs: list[int]) -> str:
    """Name a batch by its members, so that it keeps its name as long as it has the same ones."""
    first, last = seqs[0], seqs[-1]
    if last - first == len(seqs) - 1:
        return f"{first}-{last}"
    members = sha256(",".join(map(str, seqs)).encode()).hexdigest()[:16]
    return f"{first}-{last}-{members}"


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


def _host(url: str) -> str:
    authority = url.split("://", 1)[1].split("/", 1)[0].split("?", 1)[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _end_with_parent(parent: int) -> None:
    """Have the kernel end this process with the worker, and never outlive a worker that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Run a courier: arguments are the socket's descriptor, the worker's pid, an Introduction."""
    descriptor, parent, introduction = sys.argv[1:]
    _end_with_parent(int(parent))
    told = msgspec.json.decode(introduction, type=Introduction)
    peer = socket.socket(fileno=int(descriptor))
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the worker was killed
        Courier(peer, told).run()
    os._exit(0)  # without collecting libcurl's handles, whose callbacks want a live interpreter


if __name__ == "__main__":
    main()
