"""Refusing messages before the disk is full: how often it is looked at, and what counts."""

from __future__ import annotations

from typing import cast

import pytest

from broker.errors import StorageFull
from broker.room import CHECK_S, Room
from broker.store.port import Store

MIB = 1024 * 1024
MIN_FREE = 64 * MIB


class Disk:
    """What a store tells of its disk, with a count of the questions."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.asked = 0
        self.clock = 0.0

    def free_bytes(self) -> int:
        self.asked += 1
        return self.free

    def reusable_bytes(self) -> int:
        return 0

    def room(self, min_free: int = MIN_FREE) -> Room:
        return Room(cast("Store", self), min_free, lambda: self.clock)


def test_disk_is_looked_at_again_once_a_64th_of_what_stays_free_was_taken() -> None:
    disk = Disk(200 * MIB)
    room = disk.room()
    for _ in range(64):
        room.take(MIB // 16)
        room.written(MIB // 16)
    assert disk.asked == 1 + 3  # at the first message, and beyond each further MiB


def test_disk_is_looked_at_again_after_a_while() -> None:
    disk = Disk(200 * MIB)
    room = disk.room()
    room.require()
    disk.free = 0
    room.require()
    disk.clock += CHECK_S * 1.01
    with pytest.raises(StorageFull, match="67108864 bytes"):
        room.require()
    disk.free = 200 * MIB
    disk.clock += CHECK_S * 1.01
    room.require()


def test_what_is_being_written_counts_until_it_is_written() -> None:
    disk = Disk(MIN_FREE + 10 * MIB)
    room = disk.room()
    room.take(4 * MIB)
    room.take(4 * MIB)
    with pytest.raises(StorageFull):
        room.take(4 * MIB)
    room.written(4 * MIB)
    room.take(4 * MIB)


def test_refused_messages_count_for_nothing() -> None:
    disk = Disk(MIN_FREE)
    room = disk.room()
    for _ in range(10):
        with pytest.raises(StorageFull):
            room.take(4 * MIB)
    disk.free = MIN_FREE + 4 * MIB
    room.take(4 * MIB)


def test_nothing_is_refused_where_nothing_is_to_stay_free() -> None:
    room = Disk(0).room(min_free=0)
    room.take(32 * MIB)
    room.take(32 * MIB)
