"""What reads or changes any number of a subscription's rows, a few at a time.

Between two batches the event loop serves others, and the broker may be killed: each commit leaves
rows that need nothing of the next. The clearing of a seek is the exception, for which the
subscription is marked until it is over.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeAlias

from broker.store.port import Lease
from broker.store.sqlite.group import GroupCommit
from broker.store.sqlite.queries import SQL

Letter: TypeAlias = tuple[int, str | None]
Statement: TypeAlias = tuple[str, tuple[Any, ...]]

# So many a commit: some 5 ms of the event loop.
BATCH_ROWS = 500
# So many at once of what is read only: 2 to 5 ms.
READ_ROWS = 2000


class Batches:
    """The rows of one subscription, which `require_owned` says still to be there, or raises."""

    def __init__(
        self,
        subscription: int,
        group: GroupCommit,
        reader: sqlite3.Connection,
        require_owned: Callable[[], None],
    ) -> None:
        self._id = subscription
        self._group = group
        self._reader = reader
        self._require_owned = require_owned

    # -- reading -----------------------------------------------------------------------------------

    async def waiting_keys(self, limit: int) -> list[str]:
        """Return up to `limit` keys that have rows which are not dead."""
        keys: list[str] = []
        while len(keys) < limit:
            most = min(limit - len(keys), READ_ROWS)
            parameters = (self._id, keys[-1] if keys else "", most)
            found = [key for (key,) in self._reader.execute(SQL["waiting_keys"], parameters)]
            keys += found
            if len(found) < most:
                break
            await self._let_others_have_a_turn()
        return keys

    async def leases(self) -> list[Lease]:
        """Return the leases that end by themselves."""
        leases: list[Lease] = []
        while True:
            parameters = (self._id, leases[-1].seq if leases else 0, READ_ROWS)
            found = [Lease(*row) for row in self._reader.execute(SQL["leases"], parameters)]
            leases += found
            if len(found) < READ_ROWS:
                return leases
            await self._let_others_have_a_turn()

    async def _let_others_have_a_turn(self) -> None:
        await asyncio.sleep(0)
        self._require_owned()

    # -- changing ----------------------------------------------------------------------------------

    async def regroup(self, ordering: str) -> None:
        """Have each key's first row, and no other, be one that is not held; or none held."""
        if ordering == "key":
            await self._change("retry", "hold_behind_first")
            await self._change("held", "free_first_held")
        else:
            await self._change("held", "free_all_held")

    async def clear(self, position: int, generation: int, replay_until: int) -> None:
        """Write where a seek goes, with the mark of one that is not over; remove what it voids."""
        await self._write(("seek_position", (position, generation, replay_until, self._id)))
        after = 0
        while (end := self._end_of_next("next_rows", self._id, after)) is not None:
            await self._write(("seek_rows", (self._id, after, end, position)))
            after = end
        await self._write(("seek_finished", (self._id,)))

    async def replay(
        self, seqs: Sequence[int] | None, busy: Collection[str] | None, now: float
    ) -> int:
        """Make dead rows due, and hold at once what has to wait; see Shard.replay."""
        count = 0
        for letters in self._dead_all() if seqs is None else self._dead_among(seqs):
            chosen = json.dumps([seq for seq, _ in letters])
            statements: list[Statement] = [("replay_dead", (now, self._id, chosen))]
            if busy is not None:
                keys = {key for _, key in letters if key is not None}
                taken = json.dumps([key for key in keys if key in busy])
                statements += [
                    ("hold_busy", (self._id, chosen, taken)),
                    ("hold_behind_of", (self._id, json.dumps(list(keys)))),
                ]
            await self._write(*statements)
            count += len(letters)
        return count

    def _dead_all(self) -> Iterator[list[Letter]]:
        after = 0
        while letters := self._read("dead_all", self._id, after, BATCH_ROWS):
            yield letters
            after = letters[-1][0]

    def _dead_among(self, seqs: Sequence[int]) -> Iterator[list[Letter]]:
        chosen = sorted(set(seqs))
        for start in range(0, len(chosen), BATCH_ROWS):
            some = json.dumps(chosen[start : start + BATCH_ROWS])
            if letters := self._read("dead_some", self._id, some):
                yield letters

    async def _change(self, state: str, name: str) -> None:
        """Have a statement change the rows in a state: it takes the seqs between which it may."""
        after = 0
        while (end := self._end_of_next("next_rows_in", self._id, state, after)) is not None:
            await self._write((name, (self._id, after, end)))
            after = end

    def _end_of_next(self, name: str, *place: Any) -> int | None:
        """Return up to which seq the next few rows go, None if there are none."""
        ((end,),) = self._read(name, *place, BATCH_ROWS)
        return end if end is None else int(end)

    def _read(self, name: str, *parameters: Any) -> list[Any]:
        return self._reader.execute(SQL[name], parameters).fetchall()

    async def _write(self, *statements: Statement) -> None:
        """Have statements written in one transaction."""
        self._group.open.statements += statements
        self._group.ring()
        await self._group.durable()
        self._require_owned()
