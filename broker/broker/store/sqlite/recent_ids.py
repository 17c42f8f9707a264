"""Recognising repeats: which ids of publishers have been seen."""

import sqlite3
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from broker.model import NewMessage
from broker.store.port import IdTaken
from broker.store.sqlite.id_run import SHORTEST, IdRun, OpenRun, rise
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.queries import SQL

SOURCES_REMEMBERED = 10_000
NOT_YET = 0  # stands for the seq of a message that waits for its time

# topic, source, id, seq, fingerprint, stored_at
KeyRow: TypeAlias = tuple[int, str, str, int, bytes, float]
Source: TypeAlias = tuple[int, str]
Identity: TypeAlias = tuple[int, str, str]
Known: TypeAlias = tuple[int, bytes, float]


class Pending:
    """Ids that are not in the tables yet. They are put in order only when one is looked up."""

    def __init__(self) -> None:
        self.rows: list[KeyRow] = []
        self.runs: list[IdRun] = []
        self._ordered = 0
        self._known: dict[Identity, Known | None] = {}
        self._runs_of: defaultdict[Source, list[IdRun]] = defaultdict(list)

    def add_run(self, run: IdRun) -> None:
        """Add a run, which comes behind all others of its source."""
        self.runs.append(run)
        self._runs_of[run.topic, run.source].append(run)

    def known(self) -> Mapping[Identity, Known | None]:
        """Return what has been added but for runs, None where it has been forgotten."""
        for row in self.rows[self._ordered :]:
            self._known[row[:3]] = row[3:]
        self._ordered = len(self.rows)
        return self._known

    def run_before(self, identity: Identity) -> IdRun | None:
        """Return the run that begins last before an id, or with it."""
        runs = self._runs_of.get(identity[:2], ())
        place = bisect_right(runs, identity[2], key=lambda run: run.first)
        return runs[place - 1] if place else None

    def forget(self, identity: Identity) -> None:
        """Let an id be free."""
        self.known()
        self._known[identity] = None

    def highest(self, source: Source) -> str:
        """Return the highest id that has been added but for runs."""
        return max((row[2] for row in self.rows if row[:2] == source), default="")

    def highest_in_runs(self, source: Source) -> str:
        """Return the highest id that has been added in a run."""
        runs = self._runs_of.get(source)
        return runs[-1].last if runs else ""


class RecentIds:
    """Which ids have been seen, looked up only where an id could be a repeat."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._open = Pending()
        self._writing = Pending()
        # An id above the highest that a source has used cannot be a repeat. Ids made from the time
        # always are, so for them no look-up is needed, however long the window.
        self._highest: OrderedDict[Source, str] = OrderedDict()
        self._highest_in_runs: dict[Source, str] = {}  # of the same sources
        self._run: OpenRun | None = None  # in which an id was looked for last

    def add(self, rows: Sequence[KeyRow]) -> None:
        """Remember ids, asked for with `find` before, that are about to be written."""
        self._open.rows += rows

    def are_new_run(self, topic: int, messages: Sequence[NewMessage]) -> bool:
        """Say whether none is a repeat, and the ids may be remembered as one run."""
        if len(messages) < SHORTEST:
            return False
        return rise(messages, self._highest_of((topic, messages[0].source)))

    def add_run(self, run: IdRun) -> None:
        """Remember ids, asked for with `are_new_run` before, that are about to be written."""
        self._open.add_run(run)
        source = run.topic, run.source
        self._highest[source] = self._highest_in_runs[source] = run.last

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
        self._run = None  # it may have been removed since
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
                above = self._highest_of((topic, source))
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
        for pending in (self._open.known(), self._writing.known()):
            if identity in pending:
                return pending[identity]
        known: Known | None = self._reader.execute(SQL["find_publish_key"], identity).fetchone()
        # A row first: where an id is in a run as well, it came again later.
        return self._in_run(*identity) if known is None else known

    def _in_run(self, topic: int, source: str, id_: str) -> Known | None:
        if id_ > self._highest_in_runs.get((topic, source), id_):
            return None
        # Who repeats a whole request looks for all of a run.
        if self._run is None or not self._run.spans(topic, source, id_):
            run = self._run_spanning((topic, source, id_))
            if run is None:
                return None
            self._run = OpenRun(run)
        return self._run.find(id_)

    def _run_spanning(self, identity: Identity) -> IdRun | None:
        for pending in (self._open, self._writing):
            run = pending.run_before(identity)
            if run is not None and identity[2] <= run.last:
                return run
        row = self._reader.execute(SQL["find_id_run"], identity).fetchone()
        return None if row is None else IdRun(*row)

    def _highest_of(self, source: Source) -> str:
        highest = self._highest.get(source)
        if highest is None:
            written, in_runs = self._reader.execute(SQL["highest_ids"], source).fetchone()
            pending = (self._open, self._writing)
            in_runs = max(in_runs or "", *(each.highest_in_runs(source) for each in pending))
            highest = max(written or "", in_runs, *(each.highest(source) for each in pending))
            self._highest[source], self._highest_in_runs[source] = highest, in_runs
            while len(self._highest) > SOURCES_REMEMBERED:
                forgotten, _ = self._highest.popitem(last=False)
                self._highest_in_runs.pop(forgotten, None)
        return highest


def _remember(
    here: dict[tuple[str, str], tuple[int, bytes]], message: NewMessage, position: int
) -> None:
    if message.fingerprint is not None:
        here.setdefault((message.source, message.id), (~position, message.fingerprint))
