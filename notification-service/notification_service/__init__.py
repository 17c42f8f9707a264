"""The notification service: tells customers what becomes of their orders."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import cast

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from broker_client import Inbox
from broker_client.flask_ext import Subscriber
from broker_client.traces import Traces
from notification_service import health, notifications
from notification_service.background import Background, Loop
from notification_service.database import Database
from notification_service.journal import Journal
from notification_service.models import Base
from notification_service.problems import register_problems
from notification_service.sender import Sender, open_channel
from notification_service.settings import Settings, read_settings
from notification_service.webhooks import handle_events, purge_inbox

MAX_BODY_BYTES = 2 * 1024 * 1024  # the broker's messages have at most half of it


def create_app(environment: Mapping[str, str] | None = None) -> Flask:
    """Build the app from its settings, by default the process's environment.

    Subscribing begins at once; what else works beside the requests waits until
    `app.extensions["background"]` is started. Raises WrongSetting.
    """
    settings = read_settings(os.environ if environment is None else environment)
    database = Database(settings.database_url)
    inbox = Inbox(database.engine)
    journal = Journal(database, time.time, len(settings.notify_urls))

    database.create_tables(Base.metadata)
    inbox.create_tables()

    app = Flask(__name__)
    app.config.update(broker_config(settings), MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
    cast(DefaultJSONProvider, app.json).sort_keys = False
    subscriber = Subscriber(app, inbox=inbox, transaction=journal.transaction)
    handle_events(subscriber, journal)

    app.extensions["database"] = database
    app.extensions["journal"] = journal
    app.extensions["subscriber"] = subscriber
    app.extensions["background"] = [
        Traces("notification-service", environment),
        *sender_loops(settings, database),
        Loop("inbox", partial(purge_inbox, inbox)),
        subscriber,
    ]
    register_problems(app)
    app.register_blueprint(notifications.bp)
    app.register_blueprint(health.bp)
    return app


def broker_config(settings: Settings) -> dict[str, object]:
    """Say what the client library's Flask extension wants to know."""
    return {
        "BROKER_URL": settings.broker_url,
        "BROKER_API_KEY": settings.broker_api_key,
        "BROKER_SUBSCRIBER_NAME": "notification-service",
        "BROKER_WEBHOOK_URL": settings.broker_webhook_url,
        "BROKER_WEBHOOK_SECRET": settings.broker_webhook_secret,
        "BROKER_WEBHOOK_ORIGINS": settings.broker_webhook_origins,
        "BROKER_SUBSCRIBE": settings.broker_subscribe,
    }


def sender_loops(settings: Settings, database: Database) -> list[Background]:
    """Return a loop for each channel that sends what is owed to it."""
    return [
        Loop(
            f"sender {number}",
            Sender(database, number, open_channel(url), time.time, Random()).step,
        )
        for number, url in enumerate(settings.notify_urls, start=1)
    ]
