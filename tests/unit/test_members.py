"""Which brokers are alive."""

from __future__ import annotations

from broker.sharing.members import GONE_S, SILENT_S, STEADY_S, Heartbeat, Members


def test_broker_that_is_not_heard_for_a_while_is_gone() -> None:
    now = 100.0
    members = Members("http://a", lambda: now)
    said = Heartbeat("http://b", False, [1, 2])
    for _ in range(4):
        members.hear(said)
        now += STEADY_S / 3
    assert members.able({0}) == {"http://a": {0}, "http://b": {1, 2}}
    now += GONE_S
    assert members.able({0}) == {"http://a": {0}}


def test_broker_that_was_silent_is_given_nothing_until_it_was_heard_for_a_while() -> None:
    now = 100.0
    members = Members("http://a", lambda: now)
    said = Heartbeat("http://b", False, [1])

    def hear_for(seconds: float) -> set[int]:
        nonlocal now
        for _ in range(round(seconds)):
            members.hear(said)
            now += 1.0
        return set(members.able(set())["http://b"])

    assert hear_for(1.0) == set()
    assert hear_for(STEADY_S) == {1}
    now += SILENT_S
    assert hear_for(1.0) == set(), "frozen, it says what was true before"
    assert hear_for(STEADY_S) == {1}


def test_broker_that_stops_is_given_nothing() -> None:
    members = Members("http://a", lambda: 0.0)
    members.hear(Heartbeat("http://b", False, [1]))
    members.hear(Heartbeat("http://b", True, [1]))
    assert members.able(set()) == {"http://a": set()}


def test_sessions_of_a_broker_that_is_gone_count_no_more() -> None:
    now = 100.0
    members = Members("http://a", lambda: now)
    members.hear(Heartbeat("http://b", False, [], {}, {"id": ("key", 200.0)}))
    members.hear(Heartbeat("http://c", False, [], {}, {}))
    assert members.sessions() == {"id": ("key", 200.0)}
    now += GONE_S
    assert members.sessions() == {}


def test_what_a_broker_says_itself_is_no_news_to_it() -> None:
    members = Members("http://a", lambda: 0.0)
    members.hear(Heartbeat("http://a", True, []))
    assert members.able({3}) == {"http://a": {3}}


def test_secret_is_known_as_long_as_its_broker_is_heard() -> None:
    now = 100.0
    members = Members("http://a", lambda: now)
    members.hear(Heartbeat("http://b", False, [], {}, {}, "digest"))
    members.hear(Heartbeat("http://c", False, []))
    assert members.has("digest")
    assert not members.has("another")
    now += GONE_S
    assert not members.has("digest")
