"""Several brokers on one JetStream that share the work: each owns some cells of the store."""

from __future__ import annotations

import itertools
import queue
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from google.protobuf.empty_pb2 import Empty

from broker.partition import cell_of
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.generated.cloudevents_pb2 import CloudEvent
from support.api import QUICK_RETRY, SLOW_RETRY, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.command import run_broker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually
from support.nats_server import NatsServer
from support.numbers import Publisher, assert_all_came_in_order, wait_for

CELLS = 6
WITHIN_S = 30.0
StartNode = Callable[..., BrokerProcess]


def topics_like(name: str) -> list[str]:
    """Name one topic of each cell."""
    names = [f"{name}{number}" for number in range(1000)]
    return [next(each for each in names if cell_of(each, CELLS) == cell) for cell in range(CELLS)]


TOPICS = topics_like("t")


ADMIN = "the-key-of-an-admin-0123456789"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}


@contextmanager
def running_nats(folder: Path) -> Iterator[NatsServer]:
    """Run a server."""
    server = NatsServer(folder / "nats")
    server.configure()
    with closing(server):
        yield server.start()


@contextmanager
def starting_nodes(folder: Path, nats: NatsServer) -> Iterator[StartNode]:
    """Start brokers of a cluster."""
    started: list[BrokerProcess] = []

    def start(**settings: str) -> BrokerProcess:
        place = folder / f"node-{len(started)}"
        place.mkdir()
        node = BrokerProcess(
            place,
            BROKER_STORE=f"nats://{nats.address}/drill?cells={CELLS}",
            BROKER_REPLICA=str(place / "replica"),
            **settings,
        )
        node.set(BROKER_NODE_URL=node.base_url)
        started.append(node)
        return node.start()

    try:
        yield start
    finally:
        for node in started:
            node.close()
            print(node.log()[-20_000:])


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own."""
    with running_nats(tmp_path) as server:
        yield server


@pytest.fixture
def start_node(tmp_path: Path, nats: NatsServer) -> Iterator[StartNode]:
    """Start a broker of the test's own cluster."""
    with starting_nodes(tmp_path, nats) as start:
        yield start


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BrokerProcess]]:
    """Two brokers that own three cells each, for tests with topics of their own."""
    folder = tmp_path_factory.mktemp("pair")
    with running_nats(folder) as server, starting_nodes(folder, server) as start:
        nodes = [start(), start()]
        wait_for_even_shares(nodes)
        yield nodes


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BrokerProcess]]:
    """Two brokers that own three cells each, and ask for keys."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_nats(folder) as server, starting_nodes(folder, server) as start:
        settings = {"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY": ADMIN}
        nodes = [start(**settings), start(**settings)]
        wait_for_even_shares(nodes, AS_ADMIN)
        for node in nodes:
            node.api.http.headers.update(AS_ADMIN)
        for topic in TOPICS:
            nodes[0].api.ok_publish(topic, 1)
        yield nodes


def cells_of(node: BrokerProcess, headers: Mapping[str, str] | None = None) -> set[int]:
    """Return which cells a broker owns, by what it tells Prometheus."""
    answer = httpx.get(f"{node.base_url}/metrics", headers=headers, trust_env=False)
    found = re.findall(r'^broker_cell_owned\{cell="(\d+)"\} 1', answer.text, re.MULTILINE)
    return {int(each) for each in found}


def wait_for_even_shares(
    nodes: Sequence[BrokerProcess], headers: Mapping[str, str] | None = None
) -> None:
    """Wait until the brokers own all cells, and each about as many."""

    def even() -> bool:
        shares = [cells_of(node, headers) for node in nodes]
        counts = [len(each) for each in shares]
        return sum(counts) == CELLS and max(counts) - min(counts) <= 1

    eventually(even, within_s=WITHIN_S)


@contextmanager
def publishing(nodes: Sequence[BrokerProcess]) -> Iterator[list[Publisher]]:
    """Publish numbers to a topic of each cell, to another broker each time."""
    with ExitStack() as stack:
        yield [stack.enter_context(Publisher(nodes, topic)) for topic in TOPICS]


def subscribe(node: BrokerProcess, endpoint: Endpoint) -> None:
    """Have the endpoint get every topic, each at a path of its own."""
    for topic in TOPICS:
        node.api.ok_subscribe(topic, f"{endpoint.url}/{topic}", ordering="key", retry=QUICK_RETRY)


def wait_for_all(publishers: Sequence[Publisher], more: int) -> None:
    """Wait until some more have been acknowledged in every cell."""
    for publisher in publishers:
        wait_for(publisher, more)


def assert_everything_came_in_order(endpoint: Endpoint, publishers: Sequence[Publisher]) -> None:
    """Check that nothing acknowledged is missing in any cell, and its order was kept."""
    path = urlsplit(endpoint.url).path
    for topic, publisher in zip(TOPICS, publishers, strict=True):
        assert_all_came_in_order(endpoint, publisher, f"{path}/{topic}")


def test_every_topic_is_served_whichever_broker_is_asked(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    nodes = [start_node(), start_node()]
    for topic in TOPICS:
        nodes[0].api.ok_subscribe(topic, endpoint.url)
        for node in nodes:
            node.api.ok_publish(topic, {"by": node.port})
    for node in nodes:
        listed = httpx.get(f"{node.base_url}/v1/topics", trust_env=False).json()["topics"]
        assert [each["name"] for each in listed] == sorted(TOPICS)
        assert {each["message_count"] for each in listed} == {2}
    eventually(lambda: len(endpoint.requests) == 2 * CELLS)


def test_every_topic_is_served_over_grpc_whichever_broker_is_asked(
    pair: list[BrokerProcess],
) -> None:
    topics = topics_like("called")
    for node in pair:
        with grpc.insecure_channel(f"127.0.0.1:{node.grpc_port}") as channel:
            stub = BrokerStub(channel)
            for topic in topics:
                sent = pb.PublishRequest(topic=topic, events=[CloudEvent(text_data="1")])
                (message,) = stub.Publish(sent).messages
                (streamed,) = stub.PublishStream(iter([sent]))
                watching = stub.Watch(pb.WatchRequest(topic=topic, after=message.sequence))
                assert next(watching).sequence == streamed.published.messages[0].sequence
                watching.cancel()
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetTopic(pb.TopicRequest(topic="none"))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    for topic in topics:
        assert len(list(pair[0].api.all_messages(topic))) == 4
    for node in pair:
        assert "call_failed" not in node.log()


def test_stream_over_grpc_publishes_to_topics_of_every_broker(pair: list[BrokerProcess]) -> None:
    topics = topics_like("streamed")
    requests = [
        pb.PublishRequest(topic=topic, events=[CloudEvent(text_data=str(n))])
        for n in range(30)
        for topic in topics
    ]
    unfit = pb.PublishRequest(topic="not a name", events=[CloudEvent(text_data="1")])
    for times, node in enumerate(pair, 1):
        with grpc.insecure_channel(f"127.0.0.1:{node.grpc_port}") as channel:
            *answers, refused = BrokerStub(channel).PublishStream(iter([*requests, unfit]))
        sequences = [answer.published.messages[0].sequence for answer in answers]
        assert sequences == [30 * (times - 1) + n + 1 for n in range(30) for _ in topics]
        assert refused.refused.code == "invalid_request"
    for topic in topics:
        said = [each["data"] for each in pair[0].api.all_messages(topic)]
        assert said == [*range(30), *range(30)]
    for node in pair:
        assert "call_failed" not in node.log()


def test_topics_of_every_broker_are_listed_over_grpc_for_whom_they_are(
    guarded: list[BrokerProcess],
) -> None:
    made = (
        guarded[0]
        .api.http.post("/v1/keys", json={"name": "lister", "scopes": [f"read:{TOPICS[1]}"]})
        .json()
    )

    def listed(node: BrokerProcess, key: str) -> list[str]:
        with grpc.insecure_channel(f"127.0.0.1:{node.grpc_port}") as channel:
            metadata = [("authorization", f"Bearer {key}")]
            answer = BrokerStub(channel).ListTopics(Empty(), metadata=metadata)
            return [str(topic["name"]) for topic in answer.topics]

    def known_to(node: BrokerProcess) -> bool:
        try:
            return listed(node, made["key"]) == [TOPICS[1]]
        except grpc.RpcError:
            return False

    for node in guarded:
        assert listed(node, ADMIN) == sorted(TOPICS)
        eventually(partial(known_to, node), within_s=WITHIN_S)
        with pytest.raises(grpc.RpcError) as refused:
            listed(node, "no-key-at-all-0123456789")
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_brokers_share_the_cells_as_they_come_and_go(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    nodes = [start_node()]
    wait_for_even_shares(nodes)
    subscribe(nodes[0], endpoint)
    with publishing(nodes) as publishers:
        nodes.append(start_node())
        wait_for_even_shares(nodes)
        wait_for_all(publishers, 20)
        leaving = nodes.pop()
        assert leaving.stop() == 0
        wait_for_even_shares(nodes)
        wait_for_all(publishers, 20)

    assert_everything_came_in_order(endpoint, publishers)


def test_cells_of_a_killed_broker_go_on_elsewhere(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    nodes = [start_node() for _ in range(3)]
    wait_for_even_shares(nodes)
    subscribe(nodes[0], endpoint)
    with publishing(nodes) as publishers:
        wait_for_all(publishers, 20)
        nodes.pop(0).kill()
        wait_for_all(publishers, 20)
        wait_for_even_shares(nodes)
        wait_for_all(publishers, 20)

    assert_everything_came_in_order(endpoint, publishers)


@pytest.mark.slow
def test_brokers_are_restarted_one_after_the_other(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    nodes = [start_node() for _ in range(3)]
    wait_for_even_shares(nodes)
    subscribe(nodes[0], endpoint)
    with publishing(nodes) as publishers:
        for node in nodes:
            wait_for_all(publishers, 10)
            assert node.stop() == 0
            node.start()
            wait_for_even_shares(nodes)
        wait_for_all(publishers, 10)

    assert_everything_came_in_order(endpoint, publishers)
    refused = [text for publisher in publishers for text in publisher.refused]
    assert not [text for text in refused if "no_owner" in text]


def test_no_request_fails_while_cells_are_handed_over(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    first = start_node()
    subscribe(first, endpoint)
    with publishing([first]) as publishers:
        wait_for_all(publishers, 10)
        second = start_node()
        wait_for_even_shares([first, second])
        wait_for_all(publishers, 10)

    assert_everything_came_in_order(endpoint, publishers)
    assert not [publisher.refused for publisher in publishers if publisher.refused]


def test_stream_ends_where_its_cell_is_handed_over(start_node: StartNode) -> None:
    first = start_node()
    for topic in TOPICS:
        first.api.ok_publish(topic, 1)
    with grpc.insecure_channel(f"127.0.0.1:{first.grpc_port}") as channel, ExitStack() as stack:
        watching = {
            topic: BrokerStub(channel).Watch(pb.WatchRequest(topic=topic, after=0))
            for topic in TOPICS
        }
        streams = {
            topic: stack.enter_context(
                httpx.stream(
                    "GET",
                    f"{first.base_url}/v1/topics/{topic}/stream",
                    headers={"Last-Event-ID": "0"},
                    trust_env=False,
                )
            )
            for topic in TOPICS
        }
        assert {next(each).sequence for each in watching.values()} == {1}
        more: queue.SimpleQueue[pb.StreamingPullRequest | None] = queue.SimpleQueue()
        stack.callback(lambda: [more.put(None) for _ in TOPICS])
        pulling = {}
        for topic in TOPICS:
            place = {"topic": topic, "subscription": "s"}
            BrokerStub(channel).PutSubscription(pb.PutSubscriptionRequest(**place))
            asked = pb.StreamingPullRequest(**place, max_outstanding=1)
            pulling[topic] = BrokerStub(channel).StreamingPull(
                itertools.chain([asked], iter(more.get, None)), timeout=WITHIN_S * 2
            )
            first.api.ok_publish(topic, 2)
            assert next(pulling[topic]).deliveries, "and it is as many as may be out"
        second = start_node()
        wait_for_even_shares([first, second])

        for cell in cells_of(second):
            assert next(watching[TOPICS[cell]]).sequence == 2
            with pytest.raises(grpc.RpcError) as refused:
                next(watching[TOPICS[cell]])
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.RpcError) as refused:
                next(pulling[TOPICS[cell]])
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "id: 1" in list(streams[TOPICS[cell]].iter_lines())  # to its end
        (kept, *_) = cells_of(first)
        second.api.ok_publish(TOPICS[kept], 3)
        assert [next(watching[TOPICS[kept]]).sequence for _ in range(2)] == [2, 3]


def test_key_counts_everywhere_until_it_is_revoked(guarded: list[BrokerProcess]) -> None:
    made = httpx.post(
        f"{guarded[0].base_url}/v1/keys",
        json={"name": "publisher", "scopes": ["publish:*"]},
        headers=AS_ADMIN,
        trust_env=False,
    ).json()
    headers = {"Authorization": f"Bearer {made['key']}"}

    def statuses() -> set[int]:
        return {
            httpx.post(
                f"{node.base_url}/v1/topics/{topic}/messages",
                json=1,
                headers=headers,
                trust_env=False,
            ).status_code
            for node in guarded
            for topic in TOPICS
        }

    eventually(lambda: statuses() == {201}, within_s=WITHIN_S)
    url = f"{guarded[1].base_url}/v1/keys/{made['id']}"
    httpx.delete(url, headers=AS_ADMIN, trust_env=False).raise_for_status()
    eventually(lambda: statuses() == {401}, within_s=WITHIN_S)


def test_who_signs_in_has_signed_in_everywhere(guarded: list[BrokerProcess]) -> None:
    with httpx.Client(trust_env=False) as browser:
        page = {"Sec-Fetch-Site": "same-origin"}
        browser.post(f"{guarded[1].base_url}/login", data={"key": ADMIN}, headers=page)
        assert browser.cookies

        def opened() -> set[int]:
            urls = (f"{node.base_url}/topics/{topic}" for node in guarded for topic in TOPICS)
            return {browser.get(url).status_code for url in urls}

        eventually(lambda: opened() == {200}, within_s=WITHIN_S)
        browser.post(f"{guarded[0].base_url}/logout", headers=page)
        eventually(lambda: opened() == {303}, within_s=WITHIN_S)


def shown(node: BrokerProcess, page: str, **given: Any) -> str:
    """Return what a page shows."""
    answer = httpx.get(f"{node.base_url}{page}", trust_env=False, **given)
    assert answer.status_code == 200
    return answer.text


def test_pages_tell_of_the_topics_of_every_broker(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    nodes = [start_node(), start_node()]
    wait_for_even_shares(nodes)
    endpoint.script = lambda request: Answer(422)
    for topic in TOPICS:
        nodes[0].api.ok_subscribe(topic, endpoint.url)
        nodes[0].api.ok_publish(topic, 1)
        eventually(partial(nodes[0].api.dead_letters, topic))

    def tells_of_all(node: BrokerProcess) -> bool:
        return 'Dead letters</dt><dd class="value">6</dd>' in shown(node, "/")

    for node in nodes:
        eventually(partial(tells_of_all, node), within_s=WITHIN_S)
        rows = [shown(node, page) for page in ("/topics", "/subscriptions", "/")]
        assert [[topic for topic in TOPICS if f"/topics/{topic}" in row] for row in rows] == [
            TOPICS
        ] * 3
        assert "6 of 6 need a look" in rows[-1]
        assert not [row for row in rows if "Some topics are not shown" in row]


def test_pages_say_that_topics_are_missing_while_their_broker_is_gone(
    start_node: StartNode,
) -> None:
    home, other = start_node(), start_node()
    wait_for_even_shares([home, other])
    for topic in TOPICS:
        home.api.ok_publish(topic, 1)
    gone = cells_of(other)
    eventually(lambda: all(f"/topics/{topic}" in shown(home, "/topics") for topic in TOPICS))
    other.kill()

    def without() -> bool:
        text = shown(home, "/topics")
        return "Some topics are not shown" in text and "3 cells" in text

    eventually(without, within_s=WITHIN_S)
    rows = shown(home, "/topics")
    kept = [topic for cell, topic in enumerate(TOPICS) if cell not in gone]
    assert set(kept) <= {topic for topic in TOPICS if f"/topics/{topic}" in rows}
    eventually(lambda: cells_of(home) == set(range(CELLS)), within_s=WITHIN_S)
    eventually(lambda: "Some topics are not shown" not in shown(home, "/topics"))


def test_pages_show_nobody_more_than_their_key_allows(guarded: list[BrokerProcess]) -> None:
    body = {"name": "viewer", "scopes": [f"read:{TOPICS[1]}", f"read:{TOPICS[2]}"]}
    made = guarded[0].api.http.post("/v1/keys", json=body).json()

    with httpx.Client(trust_env=False, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        login = f"{guarded[1].base_url}/login"
        eventually(lambda: browser.post(login, data={"key": made["key"]}).status_code == 303)

        def shows_its_own(node: BrokerProcess) -> bool:
            text = browser.get(f"{node.base_url}/topics").text
            return [topic for topic in TOPICS if f"/topics/{topic}" in text] == TOPICS[1:3]

        for node in guarded:
            eventually(partial(shows_its_own, node), within_s=WITHIN_S)
            for headers in ({}, AS_ADMIN, {"Broker-Secret": ""}, {"Broker-Secret": ADMIN}):
                answer = browser.get(f"{node.base_url}/cells/overviews", headers=headers)
                assert answer.status_code in {401, 404}
                assert TOPICS[3] not in answer.text


def test_topic_in_a_body_or_a_query_is_found_in_its_cell(pair: list[BrokerProcess]) -> None:
    """The in-memory example's interface names topics there."""
    for topic in topics_like("produced"):
        for node, other in (pair, reversed(pair)):
            name = {"topic": topic, "subscriber": f"s{node.port}"}
            with httpx.Client(trust_env=False) as client:
                client.post(f"{node.base_url}/subscribe", params=name).raise_for_status()
                body = {"Topic": topic, "Body": node.port}
                client.post(f"{other.base_url}/produce", json=body).raise_for_status()
                assert client.get(f"{other.base_url}/consume", params=name).json() == node.port


def has_retrying(node: BrokerProcess, topic: str) -> bool:
    """Say whether a delivery of a topic waits for its next attempt."""
    return int(node.api.ok_status(topic)["retrying"]) > 0


def test_store_moves_from_its_file_into_the_cells(
    start_broker: StartBroker, start_node: StartNode, nats: NatsServer, endpoint: Endpoint
) -> None:
    admin = "the-key-of-an-admin-0123456789"
    keys = {"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY": admin}
    alone = start_broker()
    endpoint.script = lambda request: Answer(422 if request.key == "dead" else 500)
    for topic in TOPICS:
        alone.api.ok_subscribe(topic, f"{endpoint.url}/{topic}", retry=SLOW_RETRY)
        alone.api.ok_publish(topic, f"a {topic}", key="dead")
        alone.api.ok_publish(topic, f"b {topic}", key="waits")
        later = {"id": "later", "source": "/p", "deliverat": "2100-01-01T00:00:00Z"}
        good(alone.api.publish_event(topic, event(**later)))
    for topic in TOPICS:
        eventually(partial(alone.api.dead_letters, topic))
        eventually(partial(has_retrying, alone, topic))
    made = httpx.post(
        f"{alone.base_url}/v1/keys",
        json={"name": "shop", "scopes": ["admin"]},
        trust_env=False,
    ).json()
    alone.stop()
    url = f"nats://{nats.address}/drill?cells={CELLS}"

    moved = run_broker("migrate", f"sqlite:///{alone.folder / 'broker.db'}", url)
    again = run_broker("migrate", f"sqlite:///{alone.folder / 'broker.db'}", url)

    assert (moved.returncode, moved.stderr) == (0, "")
    assert again.returncode == 1, "there is something now"
    rows = re.findall(r"^ (\d)  small_block +(\d+)", moved.stdout, re.MULTILINE)
    assert rows == [(str(cell), "2") for cell in range(CELLS)]
    endpoint.script = lambda request: Answer()
    nodes = [start_node(**keys), start_node(**keys)]
    for node in nodes:
        node.api.http.headers["Authorization"] = f"Bearer {made['key']}"
    for node, topic in itertools.product(nodes, TOPICS):
        assert [each["data"] for each in node.api.all_messages(topic)] == [
            f"a {topic}",
            f"b {topic}",
        ]
        assert [each["sequence"] for each in node.api.dead_letters(topic)] == [1]
        assert [each["id"] for each in node.api.scheduled(topic)] == ["later"]
    before = {request.webhook_id for request in list(endpoint.requests)}
    fresh = [f"fresh-{topic}" for topic in TOPICS]
    for topic in fresh:
        nodes[0].api.ok_subscribe(topic, f"{endpoint.url}/{topic}")
        nodes[1].api.ok_publish(topic, 1)

    def came() -> set[str]:
        return {each.webhook_id for each in endpoint.requests if "/fresh-" in each.path}

    eventually(lambda: len(came()) == len(fresh), within_s=WITHIN_S)
    assert not came() & before, "no two messages have a name in common"


def test_store_in_another_number_of_cells_is_refused(
    start_node: StartNode, nats: NatsServer, tmp_path: Path
) -> None:
    start_node()
    other = BrokerProcess(
        tmp_path,
        BROKER_STORE=f"nats://{nats.address}/drill?cells=4",
        BROKER_REPLICA=str(tmp_path / "other"),
    )
    other.launch()
    try:
        assert other.wait() != 0
        assert f"was made with cells={CELLS}, and BROKER_STORE says cells=4" in other.log()
    finally:
        other.close()
