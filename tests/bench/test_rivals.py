"""Other brokers are spoken to in their own words, and as much is asked of them."""

import base64
import os
import time
from pathlib import Path

import pytest
from bench.messages import order
from bench.rivals.closed_loop import Tally
from bench.rivals.forwarder import SECRET, signed_request
from bench.rivals.known import DIALECTS, RIVALS, SOURCES
from bench.rivals.measuring import measure_rival_end_to_end, measure_rival_publishes, wanted
from bench.rivals.nats_jetstream import NatsDialect
from bench.rivals.rabbitmq import AmqpDialect
from bench.rivals.redis_streams import parse_load
from bench.rivals.rival import Rival
from bench.rivals.source import Taken
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from standardwebhooks import Webhook

NATS_ACK = b'MSG _INBOX.x 1 26\r\n{"stream":"bench","seq":1}\r\n'
NATS_STREAM = b'INFO {"max_payload":1048576}\r\nPONG\r\n' + NATS_ACK * 3 + b"PING\r\n"


async def nothing() -> None:
    """Acknowledge nothing."""


def amqp(*methods: object) -> bytes:
    return b"".join(bytes(frame.Method(1, method).marshal()) for method in methods)


def feed(dialect: NatsDialect | AmqpDialect, stream: bytes, cuts: set[int]) -> tuple[object, ...]:
    """Feed a stream in pieces; sum up what is made of it."""
    ends = sorted({*cuts, len(stream)})
    buffer, start = bytearray(), 0
    confirmed = refused = 0
    begin, reply = False, b""
    for end in ends:
        buffer += stream[start:end]
        start = end
        answer = dialect.answered(buffer)
        confirmed, refused = confirmed + answer.confirmed, refused + answer.refused
        begin, reply = begin or answer.begin, reply + answer.reply
    assert not buffer
    return confirmed, refused, begin, reply


@given(cuts=st.sets(st.integers(1, len(NATS_STREAM) - 1), max_size=6))
def test_nats_acknowledgements_survive_any_cut(cuts: set[int]) -> None:
    assert feed(NatsDialect(), NATS_STREAM, cuts) == (3, 0, True, b"PONG\r\n")


def test_nats_refusals_are_no_acknowledgements() -> None:
    error = b'{"error":{"code":503}}'
    message = b"MSG _INBOX.x 1 %d\r\n%s\r\n" % (len(error), error)
    assert feed(NatsDialect(), message + b"-ERR 'no'\r\n", set()) == (0, 2, False, b"")


@given(cuts=st.sets(st.integers(1, 60), max_size=6))
def test_amqp_confirms_survive_any_cut(cuts: set[int]) -> None:
    stream = amqp(
        spec.Confirm.SelectOk(),
        spec.Basic.Ack(delivery_tag=1),
        spec.Basic.Ack(delivery_tag=4, multiple=True),
        spec.Basic.Nack(delivery_tag=5),
    )
    cuts = {cut for cut in cuts if cut < len(stream)}
    assert feed(AmqpDialect(), stream, cuts) == (4, 1, True, b"")


def test_amqp_handshake_ends_with_confirms() -> None:
    dialect = AmqpDialect()
    start = spec.Connection.Start(0, 9, {}, "PLAIN", "en_US")
    tune = spec.Connection.Tune(100, 131072, 60)
    steps = (start, tune, spec.Connection.OpenOk(), spec.Channel.OpenOk())
    replies = [dialect.answered(bytearray(amqp(step))).reply for step in steps]
    names = [type(frame.decode_frame(reply)[1].method).__qualname__ for reply in replies]
    assert names == ["Connection.StartOk", "Connection.TuneOk", "Channel.Open", "Confirm.Select"]


def test_published_messages_hold_the_order() -> None:
    for dialect in (NatsDialect(), AmqpDialect()):
        assert order() in dialect.publish(order())


def test_redis_rate_is_read() -> None:
    outcome = parse_load("\rXADD: rps=0.0\rXADD bench: 20000.00 requests per second, p50=1\n", 4000)
    assert (outcome.seconds, outcome.accepted) == (0.2, 4000)
    with pytest.raises(ValueError, match="no rate"):
        parse_load("Could not connect\n", 1)


def test_forwarded_webhook_is_signed_as_the_standard_says() -> None:
    request = signed_request("h:1", "/webhook", Taken("7", b"{}", nothing), int(time.time()))
    head, body = request.split(b"\r\n\r\n")
    headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    Webhook(base64.b64encode(SECRET).decode()).verify(body, headers)
    assert headers["ce-sequence"] == "7"
    assert headers["Content-Length"] == "2"


def test_tally_gives_out_no_more_than_there_is() -> None:
    tally = Tally(left=2)
    assert [tally.take() for _ in range(4)] == [True, True, False, False]


def test_load_takes_about_as_long_as_is_wanted() -> None:
    assert wanted(5000.0, 3.0) == 15_000
    assert wanted(10.0, 3.0) == 1000


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_rival_is_known_in_every_way(rival: Rival) -> None:
    assert rival.name in SOURCES
    assert rival.name in DIALECTS or rival.name == "redis"


def test_missing_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert os.environ["PATH"] == ""
    (redis,) = [rival for rival in RIVALS if rival.name == "redis"]
    assert redis.missing() == (
        "Redis Streams is left out: there is no redis-server"
        " (apt-get install redis-server redis-tools)."
    )


@pytest.mark.usefixtures("nginx")
@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_rival_publishes_and_delivers(rival: Rival, tmp_path: Path) -> None:
    if (why := rival.missing()) is not None:
        pytest.skip(why)
    for name, measure in (("p", measure_rival_publishes), ("e", measure_rival_end_to_end)):
        folder = tmp_path / name
        folder.mkdir()
        result = measure(folder, 0.1, rival, 8)
        assert result.messages >= 1000
        assert result.cost.database_bytes > 0
        assert result.errors == 0
