"""Sessions and guesses, on a clock of the test's own."""

from __future__ import annotations

import pytest

from broker.auth import ADMIN, ApiKey, Keys, Unauthorized, digest_of
from broker.dashboard.guesses import MOST, WITHIN_S, Guesses, TooManyGuesses
from broker.sessions import COOKIE, LIFE_S, MOST_OF_A_KEY, MOST_SESSIONS, Sessions, id_in


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
def keys() -> Keys:
    """Keys with one of them."""
    keys = Keys(None, on=True)
    keys.use([ApiKey("1", "mine", (ADMIN,), digest_of("brk_mine"), 0.0)])
    return keys


def test_session_counts_at_other_brokers_while_they_hear_of_it(clock: Clock, keys: Keys) -> None:
    here, there = Sessions(keys, clock), Sessions(keys, clock)
    id_ = here.begin("brk_mine")
    there.honour(here.begun_here())
    assert there.caller(id_).name == "mine"
    here.end(id_)
    there.honour(here.begun_here())
    with pytest.raises(Unauthorized):
        there.caller(id_)


def test_session_lasts_for_its_time(clock: Clock, keys: Keys) -> None:
    sessions = Sessions(keys, clock)
    id_ = sessions.begin("brk_mine")

    clock.now += LIFE_S - 1
    caller = sessions.caller(id_)
    assert (caller.name, caller.scopes) == ("mine", (ADMIN,))
    clock.now += 1
    with pytest.raises(Unauthorized):
        sessions.caller(id_)


def test_session_is_as_good_as_its_key_is_now(clock: Clock, keys: Keys) -> None:
    sessions = Sessions(keys, clock)
    id_ = sessions.begin("brk_mine")
    keys.use([ApiKey("1", "mine", (), digest_of("brk_mine"), 0.0)])

    assert sessions.caller(id_).scopes == ()
    keys.use([])
    with pytest.raises(Unauthorized):
        sessions.caller(id_)


@pytest.mark.parametrize("id_", [None, "", "guess"])
def test_nobody_comes_with_an_id_that_is_none(clock: Clock, keys: Keys, id_: str | None) -> None:
    sessions = Sessions(keys, clock)
    sessions.begin("brk_mine")

    with pytest.raises(Unauthorized):
        sessions.caller(id_)


def test_sessions_beyond_the_most_of_a_key_end_its_oldest(clock: Clock, keys: Keys) -> None:
    sessions = Sessions(keys, clock)
    mine = ApiKey("1", "mine", (ADMIN,), digest_of("brk_mine"), 0.0)
    keys.use([mine, ApiKey("2", "other", (ADMIN,), digest_of("brk_other"), 0.0)])
    other = sessions.begin("brk_other")
    first, second, *_ = [sessions.begin("brk_mine") for _ in range(MOST_OF_A_KEY + 1)]

    with pytest.raises(Unauthorized):
        sessions.caller(first)
    assert sessions.caller(second).name == "mine"
    for _ in range(MOST_SESSIONS):
        sessions.begin("brk_mine")
    assert sessions.caller(other).name == "other"


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (f"{COOKIE}=abc", "abc"),
        (f"a=b; {COOKIE}=abc; c=d", "abc"),
        (f"x{COOKIE}=abc", None),
        (f"{COOKIE}", ""),
        ("", None),
    ],
)
def test_id_is_found_among_cookies(cookies: str, expected: str | None) -> None:
    assert id_in(cookies, secure=False) == expected


def test_over_https_another_host_cannot_set_the_cookie() -> None:
    cookies = f"{COOKIE}=of-another; __Host-{COOKIE}=own"
    assert id_in(cookies, secure=True) == "own"
    assert id_in(f"{COOKIE}=of-another", secure=True) is None


def test_guesses_are_counted_by_address_and_forgotten_after_a_while(clock: Clock) -> None:
    guesses = Guesses(clock)
    for _ in range(MOST):
        guesses.require("a")
        guesses.wrong("a")
        clock.now += 1

    with pytest.raises(TooManyGuesses) as refused:
        guesses.require("a")
    assert refused.value.retry_after_s == WITHIN_S - MOST + 1
    guesses.require("b")
    clock.now += WITHIN_S - MOST
    guesses.require("a")
