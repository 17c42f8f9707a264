"""Recognising repeats: which ids of publishers have been seen."""

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from broker.model import NewMessage
from broker.store.port import IdTaken
from broker.store.sqlite.id_run import SHORTEST, IdRun, rises
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.queries import SQL

SOURCES_REMEMBERED = 10_000
NOT_YET = 0  # stands for the seq of a message that waits for its time

# topic, source, id, seq, fingerprint, stored_at
KeyRow: TypeAlias = tuple[int, str, str, int, bytes, float]
Identity: TypeAlias = tuple[int, str, str]
Known: TypeAlias = tuple[int, bytes, float]


class Pending:
    """Ids that are not in the tables yet. They are put in order only when one is looked up."""

    def __init__(self) -> None:
        self.rows: list[KeyRow] = []
        self.runs: list[IdRun] = []
        self._ordered = 0
        self._known: dict[Identity, Known | None] = {}

    def find(self, identity: Identity) -> tuple[Known | None] | None:
        """Return what has been added of an id, None in it where that has been forgotten."""
        for row in self.rows[self._ordered :]:
            self._known[row[:3]] = row[3:]
        self._ordered = len(self.rows)
        # A row first: where an id is in a run as well, it came again later.
        if identity in self._known:
            return (self._known[identity],)
        topic, source, id_ = identity
        for run in self.runs:
            if run.topic == topic and run.source == source and (found := run.find(id_)):
                return ((*found, run.stored_at),)
        return None

    def forget(self, identity: Identity) -> None:
        """Let an id be free."""
        self.find(identity)
        self._known[identity] = None

    def highest(self, topic: int, source: str) -> str:
        """Return the highest id of a source that has been added."""
        ids = [row[2] for row in self.rows if row[:2] == (topic, source)]
        ids += [run.last for run in self.runs if run[:2] == (topic, source)]
        return max(ids, default="")


class RecentIds:
    """Which ids have been seen, looked up only where an id could be a repeat."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._open = Pending()
        self._writing = Pending()
        # An id above the highest that a source has used cannot be a repeat. Ids made from the time
        # always are, so for them no look-up is needed, however long the window.
        self._highest: OrderedDict[tuple[int, str], str] = OrderedDict()

    def add(self, rows: Sequence[KeyRow]) -> None:
        """Remember ids, asked for with `find` before, that are about to be written."""
        self._open.rows += rows

    def add_run(self, run: IdRun) -> None:
        """Remember ids of which `are_new` has said so, and that are about to be written."""
        self._open.runs.append(run)

    def are_new(self, topic: int, messages: Sequence[NewMessage]) -> bool:
        """Say whether messages are a run of new ids, which from now on are known.

        Where they are not, `find` says which are repeats.
        """
        if len(messages) < SHORTEST:
            return False
        source = messages[0].source
        if not rises(messages, self._highest_of(topic, source)):
            return False
        self._highest[(topic, source)] = messages[-1].id
        return True

    def forget(self, topic: int, source: str, id_: str) -> None:
        """Let an id be free whose row the open group removes."""
        self._open.forget((topic, source, id_))

    def write(self, connection: Executes) -> None:
        """Write what has been added."""
        self._writing, self._open = self._open, Pending()
        connection.executemany(SQL["insert_publish_key"], self._writing.rows)
        connection.executemany(SQL["insert_id_run"], self._writing.runs)

    def written(self) -> None:
        """Look in the table from now on, which also knows how old an id is."""
        self._writing = Pending()

    def find(self, topic: int, messages: Sequence[NewMessage], since: float) -> dict[int, int]:
        """Return, by position, the seq that a repeat already has, NOT_YET if that one waits.

        What was stored at or before `since` counts no more. For the repeat of a message in this
        same sequence it is ~ the position of the first. Raises IdTaken where fingerprints differ.
        """
        found: dict[int, int] = {}
        highest: dict[str, str] = {}
        here: dict[tuple[str, str], tuple[int, bytes]] = {}
        ordered = 0
        for position, message in enumerate(messages):
            fingerprint = message.fingerprint
            if fingerprint is None:
                if message.deliver_at is not None:
                    raise ValueError("a message that has deliver_at needs a fingerprint")
                continue
            source, id_ = message.source, message.id
            above = highest.get(source)
            if above is None:
                above = self._highest_of(topic, source)
            if id_ > above:
                highest[source] = id_
                continue
            highest[source] = above
            while ordered < position:
                _remember(here, messages[ordered], ordered)
                ordered += 1
            known = here.get((source, id_)) or self._find((topic, source, id_), since)
            if known is None:
                continue
            if known[1] and known[1] != fingerprint:  # empty: made by an older rule
                raise IdTaken(source, id_)
            found[position] = known[0]
        for source, above in highest.items():
            self._highest[(topic, source)] = above
        return found

    def _find(self, identity: Identity, since: float) -> tuple[int, bytes] | None:
        known = self._known(identity)
        if known is None:
            return None
        seq, fingerprint, stored_at = known
        if seq != NOT_YET and stored_at <= since:
            return None
        return seq, fingerprint

    def _known(self, identity: Identity) -> Known | None:
        for pending in (self._open, self._writing):
            if (found := pending.find(identity)) is not None:
                return found[0]
        known: Known | None = self._reader.execute(SQL["find_publish_key"], identity).fetchone()
        if known is not None:
            return known
        row = self._reader.execute(SQL["find_id_run"], identity).fetchone()
        run = None if row is None else IdRun(*row)
        place = None if run is None else run.find(identity[2])
        return None if run is None or place is None else (*place, run.stored_at)

    def _highest_of(self, topic: int, source: str) -> str:
        highest = self._highest.get((topic, source))
        if highest is None:
            (written,) = self._reader.execute(SQL["highest_publish_id"], (topic, source)).fetchone()
            pending = (each.highest(topic, source) for each in (self._open, self._writing))
            highest = max([written or "", *pending])
            self._highest[(topic, source)] = highest
            while len(self._highest) > SOURCES_REMEMBERED:
                self._highest.popitem(last=False)
        return highest


def _remember(
    here: dict[tuple[str, str], tuple[int, bytes]], message: NewMessage, position: int
) -> None:
    if message.fingerprint is not None:
        here.setdefault((message.source, message.id), (~position, message.fingerprint))
