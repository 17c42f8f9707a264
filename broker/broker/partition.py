"""Which part of the store a topic is in."""

from zlib import crc32

HOME = 0  # the cell of what belongs to no topic


def cell_of(topic: str, cells: int) -> int:
    """Return the cell of a topic, of so many. Brokers and journals rely on it: it never changes."""
    return crc32(topic.encode("utf-8", "surrogatepass")) % cells
