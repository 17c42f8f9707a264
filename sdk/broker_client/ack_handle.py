"""The way to tell the broker, later, what became of a delivery."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from broker_client.formats import dump_json
from broker_client.transport import Transport

Receipt = Literal["processed", "duplicate"]

_LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class AckHandle:
    """Settles a delivery that was answered with `Later`, from whatever thread, process or machine.

    `url` is the request's `webhook-ack-url`: whoever has it may settle that delivery and nothing
    else, so keep it as you would a password. Each method returns whether it counted; False means
    that the time was up, or that the delivery was settled before. Each raises BrokerUnavailable
    after some attempts, and BrokerRefused for a URL that is none; the broker then delivers again
    once `ack_deadline_s` is over.
    """

    url: str

    def ack(
        self,
        receipt: Receipt | None = None,
        *,
        retry: Sequence[int] = (),
        dead_letter: Sequence[int] = (),
    ) -> bool:
        """Settle the delivery: it is done.

        `receipt` says that the event is recorded by the same commit as its effects, or was before;
        where the guarantee is exactly-once, an ack without it is a failed attempt. `retry` and
        `dead_letter` are positions of a batch that the ack does not cover.
        """
        told = {"receipt": receipt, "retry": list(retry), "dead_letter": list(dead_letter)}
        return self._tell("ack", **told)

    def retry(self, after_s: float | None = None) -> bool:
        """Ask for another attempt, after the subscription's backoff or `after_s` seconds."""
        return self._tell("retry", retry_after_s=after_s)

    def dead_letter(self) -> bool:
        """Give the message up and keep it as a dead letter."""
        return self._tell("dead-letter")

    def extend(self, ack_deadline_s: float | None = None) -> bool:
        """Take more time, counted from now: the subscription's `ack_deadline_s` unless given."""
        return self._tell("extend", ack_deadline_s=ack_deadline_s)

    def _tell(self, verdict: str, **more: Any) -> bool:
        told = {name: value for name, value in more.items() if value not in (None, [])}
        url = urlsplit(self.url)
        with closing(Transport(f"{url.scheme}://{url.netloc}")) as transport:
            answer = transport.call(
                "POST",
                url._replace(scheme="", netloc="", fragment="").geturl(),
                content=dump_json({"verdict": verdict, **told}).encode(),
                content_type="application/json",
            )
        document = answer.document
        return not (isinstance(document, dict) and document.get("result") == _LAPSED)
