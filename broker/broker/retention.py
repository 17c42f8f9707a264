"""What a topic's retention lets go, and when the disk is too full to take more."""

from collections.abc import Sequence

from broker.store.port import LogEntry, TopicStats
from broker.topic import Retention

# Of the room that is to stay free, this part is needed on the disk itself: for the write-ahead log,
# which everything is written to first, deletions too.
_DISK_SHARE = 4


def exceeds(stats: TopicStats, retention: Retention) -> bool:
    """Say whether a log has more messages or bytes than its retention keeps."""
    return (
        retention.max_messages is not None and stats.message_count > retention.max_messages
    ) or (retention.max_bytes is not None and stats.bytes > retention.max_bytes)


def surplus(
    oldest: Sequence[LogEntry], stats: TopicStats, retention: Retention, now: float
) -> int | None:
    """Return the seq below which a log's messages are past its retention, None if none is.

    `oldest` are the log's oldest messages, ascending. Where all of them are past it, there may be
    more.
    """
    count, bytes_ = stats.message_count, stats.bytes
    before = None
    for entry in oldest:
        too_old = retention.max_age_s is not None and entry.stored_at < now - retention.max_age_s
        too_many = retention.max_messages is not None and count > retention.max_messages
        too_large = retention.max_bytes is not None and bytes_ > retention.max_bytes
        if not (too_old or too_many or too_large):
            break
        before = entry.seq + 1
        count -= 1
        bytes_ -= entry.size
    return before


def look_again_s(age_s: float) -> float:
    """Return how often to look for what is older than `age_s`: as exactly as anybody would notice.

    From once a second, where it is a matter of seconds, to once a minute.
    """
    return min(60.0, max(1.0, age_s / 20))


def is_full(free_bytes: int, reusable_bytes: int, min_free_bytes: int) -> bool:
    """Say whether new messages have to be refused.

    `free_bytes` are left on the disk, `reusable_bytes` within the store's own files.
    """
    return free_bytes + reusable_bytes < min_free_bytes or free_bytes < min_free_bytes / _DISK_SHARE
