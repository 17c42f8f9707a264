"""A real SMTP server on loopback that keeps the mails it takes."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import default
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from support.broker_process import free_port


class MailServer:
    """While `refusing`, it turns every mail away."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refused_count = 0
        self.refusing = False
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def notify_url(self) -> str:
        """What Apprise calls this server."""
        people = "from=shop@example.com&to=customer@example.com"
        return f"mailto://127.0.0.1:{self._controller.port}/?{people}"

    @property
    def texts(self) -> list[str]:
        """The plain text of each mail."""
        return [_plain_text(mail) for mail in self.mails]

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail; the name is the server's."""
        if self.refusing:
            self.refused_count += 1
            return "451 try again later"
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


def _plain_text(mail: Any) -> str:
    return str(mail.get_body(preferencelist=("plain", "html")).get_content())
