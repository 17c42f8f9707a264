"""Which brokers are alive."""

from __future__ import annotations

from broker.sharing.members import GONE_S, Heartbeat, Members


def test_broker_that_is_not_heard_for_a_while_is_gone() -> None:
    now = 100.0
    members = Members("http://a", lambda: now)
    members.hear(Heartbeat("http://b", False, [1, 2]))
    assert members.able({0}) == {"http://a": {0}, "http://b": {1, 2}}
    now += GONE_S
    assert members.able({0}) == {"http://a": {0}}


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
