"""What an operator does to subscriptions, whatever state the broker is in."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event

import httpx

from audit.faults import Fault, Kind
from audit.subscriptions import TOPIC, secrets
from support.api import Api, good
from support.cloudevent import Json

SEEK_BACK_S = 10.0  # longer than a message may be on its way to the disk
ANSWER_S = 5.0
AGAIN_S = 0.2
PATIENCE_S = 120.0
NOT_NOW = frozenset({429, 503})


class Operator:
    """Calls the broker until it has done what it was told; each call may be repeated."""

    def __init__(self, base_url: str, seed: int) -> None:
        self._api = Api(base_url, ANSWER_S)
        self._secrets = secrets(seed)
        self._rotations = 0

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; a pause is cut short by `hurry`. Raises AssertionError if refused."""
        name = fault.subscription
        match fault.kind:
            case Kind.PAUSE_SUBSCRIPTION:
                insist(lambda: self._api.act(TOPIC, "pause", name))
                hurry.wait(fault.for_s)
                insist(lambda: self._api.act(TOPIC, "resume", name))
            case Kind.SEEK_BACK:
                insist(lambda: self._seek_back(name))
            case Kind.ROTATE_SECRET:
                self._rotations += 1
                secret = self._secrets[self._rotations % len(self._secrets)]
                body = {"secret": secret}
                insist(lambda: self._api.act(TOPIC, "rotate-secret", name, body))
            case _:
                raise ValueError(fault.kind)

    def _seek_back(self, name: str) -> httpx.Response:
        """Ask for the last seconds once more, and for all that is owed, so that none is skipped."""
        asked_at = datetime.now(UTC)
        shown: Json = insist(lambda: self._api.get_subscription(TOPIC, name))
        owed_for_s = float(shown["oldest_unsettled_s"] or 0)
        to = asked_at - timedelta(seconds=owed_for_s + SEEK_BACK_S)
        return self._api.act(TOPIC, "seek", name, {"to": to.isoformat()})


def insist(call: Callable[[], httpx.Response]) -> Json:
    """Call until there is an answer, and give it. Raises AssertionError for a refusal, or none."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = call()
        except httpx.TransportError:
            time.sleep(AGAIN_S)
            continue
        if answer.status_code not in NOT_NOW:
            return good(answer)
        time.sleep(AGAIN_S)
    raise AssertionError(f"no answer within {PATIENCE_S:g} s")
