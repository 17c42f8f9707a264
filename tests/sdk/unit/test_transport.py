"""How long a Retry-After asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker_client.answers import parse_retry_after
from broker_client.transport import Transport

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("-1", None),
        ("\x1e7", None),
        ("\u0667", None),
        ("9" * 400, 366 * 86400.0),
        ("Thu, 01 Jan 99999999999 12:00:30 GMT", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    value: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_a_url_without_its_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="broker:8080"):
        Transport("broker:8080")
