"""Which cell a request is for."""

from __future__ import annotations

from typing import Any

import pytest

from broker.api.answers import Kept, given
from broker.api.forwarding import Forwarding
from broker.api.routing import WAIT_S, Routing, topic_of
from broker.api.served import Served
from broker.errors import NoOwner
from broker.partition import HOME

pytestmark = pytest.mark.anyio


def scope_of(path: str, query: bytes = b"", method: str = "GET") -> dict[str, Any]:
    """Make a request's scope."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [],
    }


@pytest.mark.parametrize(
    ("path", "query", "topic"),
    [
        ("/v1/topics/t", b"", "t"),
        ("/v1/topics/t/messages", b"topic=other", "t"),
        ("/v1/topics/t/subscriptions/s/pull", b"", "t"),
        ("/v1/acks/t/s/token", b"", "t"),
        ("/topics/t", b"", "t"),
        ("/topics/t/subscriptions/s", b"", "t"),
        ("/subscribe", b"topic=t&subscriber=s", "t"),
        ("/consume", b"subscriber=s&topic=t%2E1", "t.1"),
        ("/consume", b"topic=a&topic=t", "t"),
        ("/consume", b"subscriber=s", None),
        ("/v1/topics/", b"", None),
        ("/v1/keys/t", b"topic=t", None),
        ("/topics", b"", None),
        ("/", b"", None),
    ],
)
def test_topic_is_found_where_a_request_names_it(
    path: str, query: bytes, topic: str | None
) -> None:
    assert topic_of(scope_of(path, query)) == topic


class NobodyOwns:
    """Cells that have no owner, however long one waits; the time passes by itself."""

    count = 3

    def __init__(self) -> None:
        self.now = 0.0

    def served(self, cell: int) -> Served | None:
        """Own nothing."""
        return None

    def owner(self, cell: int) -> str | None:
        """Know nobody who does."""
        return None

    def end(self) -> None:
        """Own as little as before."""

    async def changed(self, within_s: float) -> None:
        """Let the time pass."""
        self.now += within_s


@pytest.mark.parametrize("path", ["/v1/topics", "/v1/topics/t", "/v1/keys"])
async def test_request_waits_for_an_owner_and_is_refused(path: str) -> None:
    cells = NobodyOwns()

    def own() -> Any:
        raise AssertionError("not asked")

    routing = Routing(cells, own, Forwarding(lambda: None, 1024), monotonic=lambda: cells.now)
    with pytest.raises(NoOwner):
        await routing.find(scope_of(path), given(b""), Kept().send, b"1")
    assert cells.now >= WAIT_S


async def cell_asked_for(scope: dict[str, Any], body: bytes = b"") -> int:
    """Return the cell whose owner a request is for."""
    asked: list[int] = []

    class Asked(NobodyOwns):
        def served(self, cell: int) -> Served | None:
            asked.append(cell)
            return None

    cells = Asked()
    forwarding = Forwarding(lambda: None, 1024)
    routing = Routing(cells, lambda: None, forwarding, monotonic=lambda: cells.now)  # type: ignore[arg-type, return-value]
    with pytest.raises(NoOwner):
        await routing.find(scope, given(body), Kept().send, b"1")
    return asked[0]


@pytest.mark.parametrize(
    ("header", "cell"), [(b"2", 2), (b"4", 1), (b"x", HOME), (b"9" * 5000, HOME), (b"", HOME)]
)
async def test_cell_that_a_client_names_is_one_that_there_is(header: bytes, cell: int) -> None:
    scope = scope_of("/v1/topics")
    scope["headers"] = [(b"broker-handed-on", header)]
    assert await cell_asked_for(scope) == cell


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Topic": "\xff"}', b'{"Topic": 1}'])
async def test_body_that_names_no_topic_is_for_the_first_cell(body: bytes) -> None:
    assert await cell_asked_for(scope_of("/produce", method="POST"), body) == HOME
