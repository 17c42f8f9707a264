"""Whose request begins next, where more are wanted than one host should have at once.

Each request that is out has a connection of its own, and libcurl looks through all of a host's to
find a free one: with thousands of them that takes longer than all else. So a host has MOST requests
at once. Its endpoints take turns, and each may always have its share of them, MOST divided by how
many endpoints are at work, whatever the others have: one that is slow holds up no other.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 1024


@dataclass(slots=True)
class _Line(Generic[T]):
    """One endpoint's requests to a host: how many are out, and those that wait."""

    out: int = 0
    waiting: deque[T] = field(default_factory=deque)


@dataclass(slots=True)
class _Host(Generic[T]):
    """A host's endpoints that are at work, and those of them that wait, the next one first."""

    out: int = 0
    lines: dict[int, _Line[T]] = field(default_factory=dict)
    next: dict[int, None] = field(default_factory=dict)


class Hosts(Generic[T]):
    """Counts what is out to each host, and keeps what waits, in the order of each endpoint."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._hosts: dict[str, _Host[T]] = {}

    def begins(self, host: str, endpoint: int, request: T) -> bool:
        """Say whether a request is out from now on; else it waits until `ended` gives it back."""
        at = self._hosts.get(host)
        if at is None:
            at = self._hosts[host] = _Host()
        line = at.lines.get(endpoint)
        if line is None:
            line = at.lines[endpoint] = _Line()
        if not line.waiting and (at.out < self._most or line.out < self._share(at)):
            at.out += 1
            line.out += 1
            return True
        line.waiting.append(request)
        at.next[endpoint] = None
        return False

    def ended(self, host: str, endpoint: int) -> T | None:
        """Count a request as ended; return one that is out from now on instead."""
        at = self._hosts[host]
        line = at.lines[endpoint]
        at.out -= 1
        line.out -= 1
        following = None
        if line.waiting and line.out < self._share(at):
            following = self._take(at, endpoint)
        elif at.next and at.out < self._most:
            following = self._take(at, next(iter(at.next)))
        if not line.out and not line.waiting:
            del at.lines[endpoint]
            if not at.lines:
                del self._hosts[host]
        return following

    def _share(self, at: _Host[T]) -> int:
        return max(self._most // len(at.lines), 1)

    @staticmethod
    def _take(at: _Host[T], endpoint: int) -> T:
        line = at.lines[endpoint]
        request = line.waiting.popleft()
        del at.next[endpoint]
        if line.waiting:
            at.next[endpoint] = None
        at.out += 1
        line.out += 1
        return request
