"""The way from a command to a running broker: its HTTP interface."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode, urlsplit

from broker import __version__
from broker.cli.failure import Refused, WrongUse
from broker.cli.remote import DEFAULT_URL
from broker.names import path_segment

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.exceptions import HTTPError

CONNECT_S = 5.0
ANSWER_S = 60.0
LONG_ANSWER_S = 3600.0
# The broker sends something every 15 s.
SILENCE_S = 45.0
_JSON = "application/json"


class Unreachable(Refused):
    """No answer came. `sent` says whether the broker may have got the request all the same."""

    def __init__(self, url: str, reason: str, *, sent: bool, changes: bool) -> None:
        self.sent = sent
        if sent:
            told = f"The broker at {url} did not answer: {reason}."
            if changes:
                told += (
                    " Whether it has done what was asked is not known: look before you repeat it."
                )
        else:
            told = (
                f"There is no way to a broker at {url}: {reason}. Is it running? Start one with "
                '"broker serve", or say where it is with --url or BROKER_URL.'
            )
        super().__init__(told)


class Refusal(Refused):
    """The broker refused: with a status and, if it is a broker, a code, a sentence and faults."""

    def __init__(self, answer: "Answer", url: str) -> None:
        self.status = answer.status
        self.retry_after_s = answer.retry_after_s
        self.code: str | None = None
        self.detail = _strange(answer, url)
        self.errors: list[dict[str, str]] = []
        super().__init__(self._told(answer))

    def _told(self, answer: "Answer") -> str:
        try:
            problem = answer.document()
            self.code, self.errors = str(problem["code"]), list(problem.get("errors", ()))
            self.detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return self.detail
        lines = [self.detail]
        faults = [f"{each['field']}: {each['message']}" for each in self.errors]
        if not all(fault in self.detail for fault in faults):
            lines += [f"  {fault}" for fault in faults]
        if answer.status == HTTPStatus.UNAUTHORIZED:
            lines.append("The key is taken from --api-key or BROKER_API_KEY.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """Read it as JSON. Raises ValueError."""
        return json.loads(self.body)

    @property
    def retry_after_s(self) -> float | None:
        """How long to wait before the request is repeated."""
        text = self.headers.get("Retry-After", "")
        return float(text) if text.isascii() and text.isdigit() else None


class Connection:
    """One broker, as its HTTP interface has it. Raises Unreachable and Refusal."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = _base(url)
        self._headers = {"User-Agent": f"broker-cli/{__version__}"}
        if api_key:
            if not api_key.isascii() or not api_key.isprintable():
                raise WrongUse("The API key has characters that no key has.")
            self._headers["Authorization"] = f"Bearer {api_key}"
        import urllib3

        self._http = urllib3.PoolManager(maxsize=1, retries=False)

    def get(
        self, path: str, query: Mapping[str, Any] | None = None, within_s: float = ANSWER_S
    ) -> Answer:
        """Read something."""
        return self.request("GET", path, query=query, within_s=within_s)

    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        query: Mapping[str, Any] | None = None,
        within_s: float = ANSWER_S,
    ) -> Answer:
        """Send a JSON document, or nothing."""
        body = None if document is None else json.dumps(document).encode()
        headers = {} if body is None else {"Content-Type": _JSON}
        return self.request(method, path, body, headers, query, within_s)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        within_s: float = ANSWER_S,
    ) -> Answer:
        """Make one request and return its answer, which is a success."""
        with self._open(method, path, body, headers, query, within_s) as response:
            answer = Answer(response.status, response.headers, response.data)
        return self._accepted(answer)

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[Iterator[bytes]]:
        """Yield the parts of an answer as they come, until it ends or breaks off."""
        with self._open("GET", path, None, headers, query, SILENCE_S) as response:
            if response.status != HTTPStatus.OK:
                self._accepted(Answer(response.status, response.headers, response.data))
            yield _parts(response)

    def _accepted(self, answer: Answer) -> Answer:
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise Refusal(answer, self.url)
        if answer.body and "json" not in answer.headers.get("Content-Type", ""):
            raise Refused(_strange(answer, self.url))
        return answer

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        query: Mapping[str, Any] | None,
        within_s: float,
    ) -> Iterator["BaseHTTPResponse"]:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.url + path + (f"?{urlencode(asked)}" if asked else "")
        try:
            response = self._http.request(
                method,
                url,
                body=body,
                headers={**self._headers, **(headers or {})},
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=CONNECT_S, read=within_s),
            )
            with closing(response):
                yield response
        except HTTPError as error:
            self._unreachable(error, changes=method != "GET")

    def _unreachable(self, error: "HTTPError", *, changes: bool) -> NoReturn:
        from urllib3.exceptions import (
            ConnectTimeoutError,
            NewConnectionError,
            ReadTimeoutError,
            SSLError,
        )

        connecting = isinstance(error, (NewConnectionError, ConnectTimeoutError, SSLError))
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            reason = f"it did not answer within {CONNECT_S:g} s"
        elif isinstance(error, ReadTimeoutError):
            reason = "it was silent for too long"
        else:
            reason = _cause(error)
        raise Unreachable(self.url, reason, sent=not connecting, changes=changes) from None


def path_of(*parts: str | int) -> str:
    """Join the parts of a path below `/v1`, whatever they contain."""
    return "/v1/" + "/".join(path_segment(str(part)) for part in parts)


def _base(url: str) -> str:
    given = url if "://" in url else f"http://{url}"
    rule = f'"{url}" is not the URL of a broker; one is {DEFAULT_URL}.'
    try:
        parts = urlsplit(given)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        raise WrongUse(rule) from None
    if not usable or parts.query or parts.fragment or "@" in parts.netloc or " " in given:
        raise WrongUse(rule)
    return given.rstrip("/")


def _parts(response: "BaseHTTPResponse") -> Iterator[bytes]:
    while part := response.read1():
        yield part


def _strange(answer: Answer, url: str) -> str:
    phrase = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else ""
    where = answer.headers.get("Location")
    told = f"What answers at {url} is not a broker: {answer.status} {phrase}".rstrip()
    if where is not None:
        told += f", see {where}"
    return f"{told}. Say where the broker is with --url or BROKER_URL."


def _cause(error: BaseException) -> str:
    """Find the words of the operating system, of TLS or of HTTP in an error of the client."""
    from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (RemoteDisconnected, IncompleteRead)):
            return "it closed the connection"
        if isinstance(seen, BadStatusLine):
            return "it does not speak HTTP"
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error).rpartition(": ")[2] or type(error).__name__
