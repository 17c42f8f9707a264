"""An endpoint that asks to be left alone, for a while or for good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from support.api import QUICK_RETRY, Api
from support.endpoint import Answer, Endpoint
from support.eventually import eventually

OK = Answer(200)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_obeyed_by_every_key(
    api: Api, topic: str, endpoint: Endpoint, status: int, as_date: bool
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=3)
    value = format_datetime(until, usegmt=True) if as_date else "2"
    endpoint.script = lambda request: (
        Answer(status, {"Retry-After": value}) if len(endpoint.requests) == 1 else OK
    )
    api.ok_subscribe(topic, endpoint.url, retry={**QUICK_RETRY, "max_backoff_s": 0.05})
    api.ok_publish(topic, 1, key="a")
    eventually(lambda: endpoint.requests and api.ok_status(topic)["retrying"])
    api.ok_publish(topic, 2, key="b")
    api.ok_publish(topic, 3)

    eventually(lambda: len(endpoint.requests) == 4)

    # A date counts whole seconds, and time has passed since it was made.
    first, *others = [request.at for request in endpoint.requests]
    assert min(others) - first > (0.5 if as_date else 1.9)
