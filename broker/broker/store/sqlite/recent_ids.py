"""Recognising repeats: which ids of publishers have been seen."""

import sqlite3
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

import msgspec

from broker.model import NewMessage
from broker.new_batch import NewBatch, side_by_side
from broker.store.port import IdTaken
from broker.store.sqlite.id_run import SHORTEST, IdRun, OpenRun, rise
from broker.store.sqlite.journal import Executes
from broker.store.sqlite.queries import SQL

SOURCES_REMEMBERED = 10_000
MANY = 4  # of which one query is cheaper than one for each
NOT_YET = 0  # stands for the seq of a message that waits for its time

# topic, source, id, seq, fingerprint, stored_at
KeyRow: TypeAlias = tuple[int, str, str, int, bytes, float]
Source: TypeAlias = tuple[int, str]
Identity: TypeAlias = tuple[int, str, str]
Known: TypeAlias = tuple[int, bytes, float]

_identity = itemgetter(0, 1, 2)
_encode = msgspec.json.Encoder().encode


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
        self._highest_in_runs: dict[Source, str] = {}  # where it is known

    def add(self, rows: Sequence[KeyRow]) -> None:
        """Remember ids, asked for with `find` before, that are about to be written."""
        self._open.rows += rows

    def as_new_runs(self, topic: int, messages: Sequence[NewMessage]) -> NewBatch | None:
        """Return messages of which none is a repeat, if their ids may be remembered as runs."""
        if len(messages) < SHORTEST:
            return None
        batch = side_by_side(messages)
        if batch is None or not rise(batch.ids, self._highest_of((topic, batch.source))):
            return None
        return batch

    def add_runs(self, runs: Iterable[IdRun]) -> None:
        """Remember ids, asked for with `as_new_runs` before, that are about to be written."""
        for run in runs:
            self._open.add_run(run)
            source = run.topic, run.source
            self._highest[source] = self._highest_in_runs[source] = run.last

    def forget(self, topic: int, source: str, id_: str) -> None:
        """Let an id be free whose row the open group removes."""
        self._open.forget((topic, source, id_))

    def write(self, connection: Executes) -> None:
        """Write what has been added."""
        self._writing, self._open = self._open, Pending()
        # In the order of the table: ids made by chance go all over it, and to a page but once.
        rows = sorted(self._writing.rows, key=_identity)
        connection.executemany(SQL["insert_publish_key"], rows)
        connection.executemany(SQL["insert_id_run"], self._writing.runs)

    def written(self) -> None:
        """Look in the table from now on, which also knows how old an id is."""
        self._writing = Pending()

    def find(self, topic: int, messages: Sequence[NewMessage], since: float) -> dict[int, int]:
        """Return, by position, the seq that a repeat already has, NOT_YET if that one waits.

        What was stored at or before `since` counts no more. For the repeat of a message in this
        same sequence it is ~ the position of the first. Raises IdTaken where fingerprints differ.
        """
        highest: dict[str, str] = {}
        suspects: dict[int, Identity] = {}
        for position, message in enumerate(messages):
            if message.fingerprint is None:
                if message.deliver_at is not None:
                    raise ValueError("a message that has deliver_at needs a fingerprint")
                continue
            source, id_ = message.source, message.id
            above = highest.get(source)
            if above is None:
                above = self._highest_of((topic, source))
            if id_ > above:
                above = id_
            else:
                suspects[position] = (topic, source, id_)
            highest[source] = above
        found = self._repeats(messages, suspects, since) if suspects else {}
        for source, above in highest.items():
            self._highest[(topic, source)] = above
        return found

    def _repeats(
        self, messages: Sequence[NewMessage], suspects: Mapping[int, Identity], since: float
    ) -> dict[int, int]:
        found: dict[int, int] = {}
        known = self._known(suspects.values())
        here: dict[tuple[str, str], tuple[int, bytes]] = {}
        ordered = 0
        for position, identity in suspects.items():
            while ordered < position:
                _remember(here, messages[ordered], ordered)
                ordered += 1
            first = here.get(identity[1:])
            if first is None:
                before = known.get(identity)
                if before is None or (before[0] != NOT_YET and before[2] <= since):
                    continue
                first = before[:2]
            if first[1] and first[1] != messages[position].fingerprint:  # empty: of an older rule
                raise IdTaken(*identity[1:])
            found[position] = first[0]
        return found

    def _known(self, identities: Iterable[Identity]) -> dict[Identity, Known | None]:
        """Return what is known of ids, whatever their age."""
        known: dict[Identity, Known | None] = {}
        wanted: defaultdict[Source, list[str]] = defaultdict(list)
        pendings = (self._open.known(), self._writing.known())
        for identity in identities:
            for pending in pendings:
                if identity in pending:
                    known[identity] = pending[identity]
                    break
            else:
                wanted[identity[:2]].append(identity[2])
        for source, ids in wanted.items():
            found = self._with_rows(source, ids)
            # A row first: where an id is in a run as well, it came again later.
            found = self._in_runs(source, [id_ for id_ in ids if id_ not in found]) | found
            known.update(((*source, id_), it) for id_, it in found.items())
        return known

    def _with_rows(self, source: Source, ids: Sequence[str]) -> dict[str, Known]:
        if len(ids) < MANY:
            rows = [
                (id_, self._reader.execute(SQL["find_publish_key"], (*source, id_)).fetchone())
                for id_ in ids
            ]
            return {id_: row for id_, row in rows if row is not None}
        found = self._reader.execute(SQL["find_publish_keys"], (*source, _encode(ids).decode()))
        return {id_: (seq, fingerprint, at) for id_, seq, fingerprint, at in found}

    def _in_runs(self, source: Source, ids: Sequence[str]) -> dict[str, Known]:
        found: dict[str, Known] = {}
        run: OpenRun | None = None
        for id_ in sorted(ids):  # so that each run is read once
            if id_ > self._highest_in_runs.get(source, id_):
                break
            if run is None or not run.spans(id_):
                spanning = self._run_spanning((*source, id_))
                run = None if spanning is None else OpenRun(spanning)
            if run is not None and (known := run.find(id_)) is not None:
                found[id_] = known
        return found

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
