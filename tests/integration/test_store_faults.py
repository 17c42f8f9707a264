"""A disk that lies, tears or takes no more: what was acknowledged before is there afterwards."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.command import run_broker
from support.disk import Disk, mounted
from support.endpoint import Endpoint
from support.eventually import eventually

PAGE, WAL_HEADER, FRAME_HEADER = 8192, 32, 24
FRAME = FRAME_HEADER + PAGE
MIB = 1024 * 1024


# -- the write-ahead log's end


def end_of(log: Path) -> tuple[int, int]:
    """Return where the last commit of a write-ahead log begins, and where it ends.

    Frames of its present life have its salts; the last of a commit tells the size of the file.
    """
    content = log.read_bytes()
    salts = content[16:24]
    begins = ends = place = WAL_HEADER
    while place + FRAME <= len(content) and content[place + 8 : place + 16] == salts:
        (size_of_file,) = struct.unpack(">I", content[place + 4 : place + 8])
        place += FRAME
        if size_of_file:
            begins, ends = ends, place
    return begins, ends


@pytest.fixture
def killed(start_broker: StartBroker) -> BrokerProcess:
    """A broker killed when 20 messages were acknowledged, of which the last is only in the log."""
    broker = start_broker()
    for n in range(19):
        broker.api.ok_publish("t", n)
    # While somebody reads what was there before, nothing newer is moved into the file.
    reader = sqlite3.connect(
        f"{(broker.folder / 'broker.db').as_uri()}?mode=ro", uri=True, isolation_level=None
    )
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM block").fetchone()
    broker.api.ok_publish("t", 19)
    broker.kill()
    reader.close()
    return broker


def stored(broker: BrokerProcess) -> list[int]:
    """Start it again; return the messages' data, and insist that all else is in order."""
    api = broker.start().api
    found = [message["data"] for message in api.all_messages("t")]
    assert api.ok_publish("t", "next") == len(found) + 1
    broker.stop()
    assert run_broker("check", broker.folder).returncode == 0
    return found


@pytest.mark.parametrize("rest", [b"", b"\x00" * FRAME, b"\xff" * 5000, b"half a header"])
def test_what_stands_behind_the_last_commit_is_nothing(killed: BrokerProcess, rest: bytes) -> None:
    log = killed.folder / "broker.db-wal"
    _, ends = end_of(log)
    log.write_bytes(log.read_bytes()[:ends] + rest)

    assert stored(killed) == list(range(20))


@pytest.mark.parametrize("salt", [b"own", b"other"])
def test_commit_that_was_never_finished_never_happened(killed: BrokerProcess, salt: bytes) -> None:
    log = killed.folder / "broker.db-wal"
    begins, ends = end_of(log)
    content = log.read_bytes()
    frame = bytearray(content[begins : begins + FRAME])
    frame[4:8] = b"\x00" * 4  # not the last of its commit
    if salt == b"other":
        frame[8:16] = b"\x07" * 8
    log.write_bytes(content[:ends] + bytes(frame) * 3)

    assert stored(killed) == list(range(20))


@pytest.mark.parametrize("tear", ["cut", "zeros", "noise"])
def test_torn_last_commit_takes_nothing_else_with_it(killed: BrokerProcess, tear: str) -> None:
    log = killed.folder / "broker.db-wal"
    begins, ends = end_of(log)
    content = log.read_bytes()
    middle = (begins + ends) // 2
    log.write_bytes(
        {
            "cut": content[:middle],
            "zeros": content[:middle] + bytes(ends - middle),
            "noise": content[:middle] + b"\xa5" * (ends - middle),
        }[tear]
    )

    assert stored(killed) == list(range(19))


# -- a disk that does not keep what it was given

FAILING_SYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int failing(void) {
    const char *flag = getenv("SYNC_FAILS_IF");
    if (flag == NULL || access(flag, F_OK) != 0) return 0;
    errno = EIO;
    return 1;
}

int fsync(int fd) {
    if (failing()) return -1;
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    if (failing()) return -1;
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""


@pytest.fixture
def failing_sync(tmp_path: Path) -> dict[str, str]:
    """What makes every fsync of a process fail while a file `fail` exists in `tmp_path`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = tmp_path / "sync.c", tmp_path / "sync.so"
    source.write_text(FAILING_SYNC)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "SYNC_FAILS_IF": str(tmp_path / "fail")}


def publish_at_once(broker: BrokerProcess, count: int) -> list[int | None]:
    """Publish from many threads; return each status, None where the connection broke."""
    statuses: list[int | None] = []

    def publish(n: int) -> None:
        with Api(broker.base_url, timeout_s=20) as api:
            try:
                statuses.append(api.publish("t", n, id=f"at-once-{n}").status_code)
            except httpx.TimeoutException:
                raise
            except httpx.TransportError:
                statuses.append(None)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == count, "one of them hung"
    return statuses


def test_failed_fsync_is_never_answered_with_success(
    start_broker: StartBroker, tmp_path: Path, failing_sync: dict[str, str], endpoint: Endpoint
) -> None:
    broker = start_broker(**failing_sync)
    broker.api.ok_subscribe("t", endpoint.url)
    acknowledged = [broker.api.ok_publish("t", n) for n in range(10)]
    worker = broker.worker().pid

    (tmp_path / "fail").touch()
    statuses = publish_at_once(broker, 20)
    (tmp_path / "fail").unlink()

    assert 201 not in statuses
    assert 503 in statuses
    broker.recover()
    assert broker.worker().pid != worker
    repeated = [good(broker.api.publish("t", n, id=f"at-once-{n}")) for n in range(20)]
    log = {message["id"]: message["sequence"] for message in broker.api.all_messages("t")}
    assert len(log) == 30, "each is stored once"
    assert {each["id"]: each["sequence"] for each in repeated}.items() <= log.items()
    assert set(acknowledged) <= set(log.values())
    eventually(lambda: set(endpoint.sequences) == set(log.values()))
    broker.stop()
    assert run_broker("check", broker.folder).returncode == 0


# -- a disk that takes no writes


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of the test's own."""
    with mounted(tmp_path / "disk", 64 * MIB) as made:
        yield made


@pytest.fixture
def on_disk(tmp_path: Path, disk: Disk) -> Iterator[BrokerProcess]:
    """A broker with its store on that disk, not started."""
    process = BrokerProcess(tmp_path, BROKER_STORE=f"sqlite:///{disk.folder / 'broker.db'}")
    process.set(BROKER_MIN_FREE_BYTES="0")
    yield process
    process.close()
    print(process.log()[-20_000:])


def test_read_only_disk_is_refused_with_a_sentence(on_disk: BrokerProcess, disk: Disk) -> None:
    on_disk.start()
    on_disk.stop()
    disk.writable(False)
    on_disk.log_path.unlink()

    on_disk.launch()

    assert on_disk.wait() != 0
    assert "cannot be written" in on_disk.log()
    assert "Traceback" not in on_disk.log()
    assert run_broker("check", disk.folder).returncode == 0
    assert run_broker("backup", on_disk.folder / "copy.db", "--store", disk.folder).returncode == 0
