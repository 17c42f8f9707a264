"""What a pump has to write of its shard, gathered until the end of a turn."""

from collections.abc import Awaitable, Callable, Iterable

from broker.dispatch.frames import Outcome
from broker.dispatch.lanes import Delivery
from broker.model import ExceptionRow, FailedAttempt, RowState, size_of
from broker.store.port import Changes, Shard

LOGGED_ANSWER_BYTES = 1024


class Ledger:
    """A shard's changes, and which of its rows have their delivery in memory."""

    def __init__(self, shard: Shard, now: Callable[[], float]) -> None:
        self._shard = shard
        self._now = now
        self.in_memory: dict[int, int] = {}  # the size of each
        self.bytes_in_memory = 0
        self._begin()

    def _begin(self) -> None:
        self._put: list[ExceptionRow] = []
        self._done: list[int] = []
        self._drop: list[int] = []
        self._failed: list[FailedAttempt] = []
        self._hold_until: float | None = None

    def enter(self, delivery: Delivery) -> None:
        """A delivery that has a row is in memory."""
        seq = delivery.message.seq
        self._leave(seq)
        self.in_memory[seq] = size = size_of(delivery.message)
        self.bytes_in_memory += size

    def _leave(self, seq: int) -> None:
        self.bytes_in_memory -= self.in_memory.pop(seq, 0)

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """Deliveries are done with."""
        done = self._done
        for delivery in deliveries:
            seq = delivery.message.seq
            if delivery.row is None:
                done.append(seq)
            else:
                self._drop.append(seq)
                self._leave(seq)

    def drop(self, seq: int) -> None:
        """A row is done with whose delivery is not in memory."""
        self._drop.append(seq)

    def put(
        self, delivery: Delivery, state: RowState, due_at: float = 0.0, reason: str = ""
    ) -> None:
        """Write a delivery's row; unless its request is out, it leaves memory."""
        message, replayed_at = delivery.message, delivery.replayed_at
        # What was replayed is owed since then, however often it is attempted.
        since = self._now() if replayed_at is None or state == "dead" else replayed_at
        delivery.row = state
        self._leave(message.seq)
        self._put.append(
            ExceptionRow(
                message.seq,
                message.key,
                state,
                delivery.attempts,
                due_at,
                reason,
                replayed_at is not None,
                since,
            )
        )

    def lease(self, delivery: Delivery) -> None:
        """Write the row of a delivery that is out, so that the position can pass it."""
        self.put(delivery, "leased", float("inf"))
        self.enter(delivery)

    def hold(self, deliveries: Iterable[Delivery]) -> None:
        """Have deliveries wait in the store, behind their key's first."""
        for delivery in deliveries:
            if delivery.row in {"held", "retry"}:
                self._leave(delivery.message.seq)
            else:
                self.put(delivery, "held")

    def log(self, delivery: Delivery, outcome: Outcome, error: str) -> None:
        """Log a failed attempt."""
        self._failed.append(
            FailedAttempt(
                delivery.message.seq,
                delivery.attempts + 1,
                self._now(),
                outcome.status or None,
                error,
                outcome.duration_ms,
                outcome.body[:LOGGED_ANSWER_BYTES].decode("utf-8", "replace"),
            )
        )

    def hold_until(self, at: float) -> None:
        """Nothing is to be sent before `at`, in Unix seconds, even after a restart."""
        self._hold_until = at

    def forget(self) -> None:
        """Drop what is not written yet, and what was in memory: a seek makes it void."""
        self.in_memory.clear()
        self.bytes_in_memory = 0
        self._begin()

    def commit(self, *, soon: bool = False) -> Awaitable[None] | None:
        """Hand over what has gathered, if anything; see Shard.commit."""
        put, done, drop, failed = self._put, self._done, self._drop, self._failed
        if not (put or done or drop or failed or self._hold_until is not None):
            return None
        changes = Changes(put, done, drop, failed, self._hold_until)
        self._begin()
        return self._shard.commit(changes, soon=soon)
