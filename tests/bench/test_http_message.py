"""Messages are taken off a buffer whole, however they were cut on the way."""

from itertools import pairwise

import pytest
from bench.http_message import Message, body_length, take_message
from hypothesis import given
from hypothesis import strategies as st


def as_sent(bodies: list[bytes]) -> bytes:
    return b"".join(
        b"POST /webhook HTTP/1.1\r\ncontent-LENGTH: %d\r\n\r\n%s" % (len(body), body)
        for body in bodies
    )


@given(bodies=st.lists(st.binary(max_size=50), max_size=5), data=st.data())
def test_messages_survive_any_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = as_sent(bodies)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)) | {0, len(stream)})
    buffer, taken = bytearray(), []
    for start, end in pairwise(cuts):
        buffer += stream[start:end]
        while (message := take_message(buffer)) is not None:
            taken.append(message.body)
    assert taken == bodies
    assert not buffer


def test_get_has_no_body() -> None:
    buffer = bytearray(b"GET /deliveries HTTP/1.1\r\nHost: a\r\n\r\nPOST")
    assert take_message(buffer) == Message(b"GET /deliveries HTTP/1.1\r\nHost: a", b"")
    assert buffer == b"POST"


def test_body_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        body_length(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked")
