"""nginx takes signed webhooks only, and its log tells which messages came."""

from http.client import HTTPConnection
from pathlib import Path

import pytest
from bench.deliveries import Deliveries
from bench.nginx import Nginx, parse_deliveries, running_nginx

from support.eventually import eventually

SIGNATURE = {"webhook-signature": "v1,c2lnbmF0dXJl"}


def post(nginx: Nginx, headers: dict[str, str], path: str = "/webhook") -> int:
    connection = HTTPConnection("127.0.0.1", nginx.process.port, timeout=10)
    try:
        connection.request("POST", path, b"{}", headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_repeats_are_counted() -> None:
    log = b"1 1000.100\n2 1000.200\n1 1000.300\n"
    assert parse_deliveries(log) == Deliveries(3, 1, first_at=1000.1, last_at=1000.3)


def test_line_cut_short_is_left_out() -> None:
    assert parse_deliveries(b"1 1000.100\n2 10") == Deliveries(1, 0, 1000.1, 1000.1)


def test_empty_log_has_no_deliveries() -> None:
    assert parse_deliveries(b"") == Deliveries(0, 0, 0.0, 0.0)


@pytest.mark.usefixtures("nginx")
def test_signed_webhook_is_logged(tmp_path: Path) -> None:
    with running_nginx(tmp_path) as running:
        assert post(running, SIGNATURE | {"ce-sequence": "7"}) == 204
        assert post(running, SIGNATURE | {"ce-sequence": "7"}) == 204
        eventually(lambda: running.received() == 2)
        assert running.deliveries().duplicates == 1


@pytest.mark.usefixtures("nginx")
def test_query_tells_endpoints_apart(tmp_path: Path) -> None:
    with running_nginx(tmp_path) as running:
        for query in ("", "?n=1", "?n=2"):
            assert post(running, SIGNATURE | {"ce-sequence": "7"}, f"/webhook{query}") == 204
        eventually(lambda: running.received() == 3)
        assert running.deliveries().duplicates == 0


@pytest.mark.usefixtures("nginx")
def test_failing_endpoints_fail(tmp_path: Path) -> None:
    with running_nginx(tmp_path) as running:
        assert post(running, SIGNATURE, "/broken") == 500
        assert post(running, SIGNATURE, "/unknown") == 404
        assert running.received() == 0


@pytest.mark.usefixtures("nginx")
def test_unsigned_webhook_is_refused(tmp_path: Path) -> None:
    with running_nginx(tmp_path) as running:
        assert post(running, {"ce-sequence": "7"}) == 401
