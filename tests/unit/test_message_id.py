"""An id tells its time only if it is a UUIDv7."""

from __future__ import annotations

import time

import pytest

from broker.message_id import made_at_of
from broker_client.uuid7 import uuid7


def test_uuid_of_now_tells_the_time() -> None:
    before = time.time()
    made_at = made_at_of(uuid7())
    assert made_at is not None
    assert before - 0.002 < made_at < time.time() + 0.002


def test_example_of_the_standard() -> None:
    assert made_at_of("017F22E2-79B0-7CC3-98C4-DC0C0C07398F") == 1645557742.0


@pytest.mark.parametrize("id_", ["", "o-17", "017F22E2", "919108f7-52d1-4320-9bac-f847db4148a8"])
def test_other_ids_tell_none(id_: str) -> None:
    assert made_at_of(id_) is None
