"""Which messages have come: a bit for each sequence, whatever their number."""

from __future__ import annotations


class Arrivals:
    """Counts distinct sequences, and those that came again."""

    def __init__(self) -> None:
        self.distinct = 0
        self.again = 0
        self._bits = bytearray()

    def add(self, sequence: int) -> bool:
        """Note one; say whether it came for the first time."""
        place, bit = sequence >> 3, 1 << (sequence & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits) + 65536))
        if self._bits[place] & bit:
            self.again += 1
            return False
        self._bits[place] |= bit
        self.distinct += 1
        return True
