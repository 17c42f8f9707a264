"""The sender and a real mail server: what is kept is sent, whatever fails on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_client import Event
from notification_service import create_app
from notification_service.journal import Journal
from notification_service.sender import (
    LEASE_S,
    LOOK_S,
    MAX_ATTEMPTS,
    MAX_BACKOFF_S,
    Sender,
    backoff_s,
    open_channel,
)
from notification_service.story import News
from services.conftest import Build
from services.mail import MailServer
from services.ticking import Clock

DAY_S = 86_400.0

# Apprise's mail plugin imports it where Python still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server."""
    with MailServer() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock(1000.0)


@pytest.fixture
def journal(build: Build, clock: Clock) -> Journal:
    """A journal whose notifications are owed to one channel."""
    app = build(create_app)
    return Journal(app.extensions["database"], clock, channel_count=1)


@pytest.fixture
def sender(journal: Journal, clock: Clock, mail: MailServer) -> Sender:
    """A sender with the mail server as its channel."""
    return Sender(journal.database, 1, open_channel(mail.notify_url), clock, Random(1))


def write(journal: Journal, *texts: str) -> None:
    """Write notifications down."""
    with journal.transaction() as session:
        for text in texts:
            journal.write(session, Event(type="test", source="/test"), News("o-1", text))


def states(journal: Journal) -> list[str]:
    """How far each sending is."""
    kept = journal.list_page(None, 0, 1000)
    return [sending.state for notification in kept for sending in notification.sendings]


def test_notification_is_mailed_once(journal: Journal, sender: Sender, mail: MailServer) -> None:
    write(journal, "Order o-1: <b>2</b> mugs — thank you!")

    assert [sender.step(), sender.step()] == [0, LOOK_S]

    assert len(mail.mails) == 1
    assert mail.mails[0]["subject"] == "Order o-1"
    assert "Order o-1: <b>2</b> mugs — thank you!" in mail.texts[0]
    assert states(journal) == ["sent"]


def test_mail_that_is_refused_is_tried_again_later(
    journal: Journal, sender: Sender, mail: MailServer, clock: Clock
) -> None:
    write(journal, "first")
    mail.refusing = True

    assert [sender.step(), sender.step()] == [0, LOOK_S]
    assert states(journal) == ["waiting"]

    mail.refusing = False
    clock.now += MAX_BACKOFF_S
    sender.step()
    assert len(mail.mails) == 1
    assert states(journal) == ["sent"]


def test_channel_that_fails_holds_back_no_other(
    journal: Journal, sender: Sender, mail: MailServer
) -> None:
    write(replace(journal, channel_count=2), "first")
    with MailServer() as working:
        mail.refusing = True
        other = replace(sender, number=2, channel=open_channel(working.notify_url))

        assert [sender.step(), other.step()] == [0, 0]

    assert len(working.mails) == 1
    assert states(journal) == ["waiting", "sent"]


def test_sending_is_given_up_after_its_last_attempt_and_kept(
    journal: Journal,
    sender: Sender,
    mail: MailServer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(journal, "first")
    mail.refusing = True

    for _ in range(MAX_ATTEMPTS + 5):
        sender.step()
        clock.now += DAY_S

    assert mail.refused_count == MAX_ATTEMPTS
    assert states(journal) == ["failed"]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "given up" in warnings[-1]


def test_sending_that_a_dead_process_claimed_is_sent_after_its_lease(
    journal: Journal, sender: Sender, mail: MailServer, clock: Clock
) -> None:
    write(journal, "first")
    assert sender.claim() is not None

    assert sender.claim() is None
    clock.now += LEASE_S
    sender.step()

    assert len(mail.mails) == 1
    assert states(journal) == ["sent"]


def test_senders_together_send_each_notification_once(
    journal: Journal, sender: Sender, mail: MailServer
) -> None:
    texts = [f"number {number:02}" for number in range(20)]
    write(journal, *texts)

    def work() -> None:
        own = replace(sender, channel=open_channel(mail.notify_url))
        while own.step() == 0:
            pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(text.strip()[:9] for text in mail.texts) == texts
    assert states(journal) == ["sent"] * 20


@given(attempt=st.integers(1, MAX_ATTEMPTS - 1), dice=st.floats(0, 1, exclude_max=True))
def test_backoff_grows_to_its_bound(attempt: int, dice: float) -> None:
    wait_s = backoff_s(attempt, dice)

    assert wait_s is not None
    assert min(MAX_BACKOFF_S, 2**attempt) / 2 <= wait_s <= MAX_BACKOFF_S
