"""wrk is told what to send, and its outcome is read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bench.loader import Load, LoadOutcome, parse_outcome, run_wrk
from bench.stopwatch import running_stopwatch

Request = tuple[str, str | None, str | None, bytes]


@contextmanager
def recorder() -> Iterator[tuple[int, list[Request]]]:
    """Answer every request, and keep its path, key, id and data."""
    seen: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["ce-partitionkey"], self.headers["ce-id"], data))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


OUTPUT = """\
Running 5s test @ http://127.0.0.1:9111/topics/t/messages
  1 threads and 64 connections
Requests/sec:   1111.48
outcome {"seconds": 5.012154, "answered": 5571, "refused": 71, "broken": 2}
"""


def test_outcome_is_found_in_the_output() -> None:
    assert parse_outcome(OUTPUT) == LoadOutcome(5.012154, answered=5571, refused=71, broken=2)


def test_accepted_leaves_the_refused_out() -> None:
    assert parse_outcome(OUTPUT).accepted == 5500


def test_errors_are_refused_or_broken() -> None:
    assert parse_outcome(OUTPUT).errors == 73


def test_output_without_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="no outcome"):
        parse_outcome("unable to connect to 127.0.0.1:9111 Connection refused\n")


@pytest.mark.usefixtures("wrk")
def test_requests_rotate_over_variants_with_ids_of_their_own(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"@@@@@@@@@@@@")
    with recorder() as (port, seen):
        load = Load(
            f"http://127.0.0.1:{port}/topics/t-{{n}}/messages",
            "text/plain",
            body,
            connections=1,
            seconds=1,
            variants=3,
            headers={"ce-partitionkey": "key-{n}", "ce-id": "@@@@@@@@@@@@"},
            scattered_ids=True,
        )
        run_wrk(load)
    assert len(seen) > 10
    assert {(path, key) for path, key, _, _ in seen} == {
        (f"/topics/t-{number}/messages", f"key-{number}") for number in (1, 2, 3)
    }
    ids = [id_ for _, _, id_, _ in seen]
    assert ids == [data.decode() for _, _, _, data in seen]
    assert len(set(ids)) == len(ids)
    assert ids != sorted(ids)


@pytest.mark.usefixtures("wrk")
def test_wrk_counts_refusals(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"index": 1}')
    with running_stopwatch(tmp_path) as stopwatch:  # refuses what is not signed
        load = Load(stopwatch.endpoint, "application/json", body, connections=2, seconds=1)
        outcome = run_wrk(load)
    assert outcome.answered > 0
    assert outcome.accepted == 0
    assert outcome.broken == 0
