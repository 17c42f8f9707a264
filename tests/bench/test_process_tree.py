"""The cost of a server includes the processes below it."""

import subprocess
import sys

from bench.process_tree import cpu_seconds, memory, process_tree

from support.eventually import eventually

WORK = "x = bytearray(50_000_000)\nfor i in range(3_000_000): pass\nprint(flush=True); input()"
NAMES = ["sh", "sh", "cat"]
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORK!r}])"


def test_tree_includes_grandchildren() -> None:
    command = ["sh", "-c", 'sh -c "cat; true"; true']
    with subprocess.Popen(command, stdin=subprocess.PIPE) as root:  # ends when its input does
        eventually(lambda: [process.name() for process in process_tree(root.pid)] == NAMES)


def test_cost_includes_children() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        root.stdout.readline()
        assert cpu_seconds(root.pid) > cpu_seconds_of_root_alone(root.pid)
        assert memory(root.pid).rss_bytes > 50_000_000
        assert 0 < memory(root.pid).pss_bytes <= memory(root.pid).rss_bytes


def cpu_seconds_of_root_alone(pid: int) -> float:
    times = process_tree(pid)[0].cpu_times()
    return float(times.user + times.system)
