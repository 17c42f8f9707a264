"""What a process and its descendants have used."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes; PSS counts a page that n processes share as 1/n in each."""

    rss_bytes: int
    pss_bytes: int

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss_bytes + other.rss_bytes, self.pss_bytes + other.pss_bytes)


def process_tree(root: int) -> list[psutil.Process]:
    """List the root and everything below it."""
    process = psutil.Process(root)
    return [process, *process.children(recursive=True)]


def cpu_seconds(root: int) -> float:
    """Sum the processor time so far, user and system, of the tree and its ended children."""
    times = [process.cpu_times() for process in process_tree(root)]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def memory(root: int) -> Memory:
    """Sum the resident memory of the tree."""
    parts = [process.memory_full_info() for process in process_tree(root)]
    return Memory(sum(part.rss for part in parts), sum(part.pss for part in parts))
