"""`broker backup`: a copy made while the broker goes on is a whole store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from itertools import count
from pathlib import Path

import pytest

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.command import run_broker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually


def restored(tmp_path: Path, copy: Path) -> BrokerProcess:
    """A broker on a copy, not started."""
    folder = tmp_path / "restored"
    folder.mkdir()
    shutil.copyfile(copy, folder / "broker.db")
    return BrokerProcess(folder)


def test_copy_has_everything_acknowledged_before(
    start_broker: StartBroker, tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(422 if request.key == "k1" else 500)
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, retry=SLOW_RETRY)
    acknowledged: list[str] = []
    stop = threading.Event()

    def publishing() -> None:
        with Api(broker.base_url) as api:
            for n in count():
                events = [event(id=f"{n}-{each}", partitionkey=f"k{each}") for each in range(20)]
                good(api.publish_batch("t", events))
                acknowledged.extend(each["id"] for each in events)
                if stop.is_set():
                    return

    thread = threading.Thread(target=publishing)
    thread.start()
    eventually(lambda: len(acknowledged) >= 1000)
    before = set(acknowledged)
    done = run_broker("backup", tmp_path / "copy.db", "--store", broker.folder)
    during = len(acknowledged)
    stop.set()
    thread.join()

    assert (done.returncode, done.stderr) == (0, "")
    assert during > len(before), "it went on meanwhile"
    assert [path.name for path in tmp_path.glob("*copy*")] == ["copy.db"]
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert run_broker("check", tmp_path / "copy.db").returncode == 0

    broker.stop()
    second = restored(tmp_path, tmp_path / "copy.db")
    try:
        api = second.start().api
        stored = {message["id"] for message in api.all_messages("t", limit=500)}
        assert stored >= before
        shown = api.ok_status("t")
        assert shown["backlog"] + shown["dead_letters"] == len(stored)
        endpoint.script = lambda request: Answer()
        fresh = api.ok_publish("t", "fresh", key="new")
        eventually(lambda: fresh in endpoint.sequences)
        prefixes = {request.webhook_id.rpartition("_")[0] for request in endpoint.requests}
        assert len(prefixes) == 1, "the copy's messages have the names they had"
    finally:
        second.close()


def test_copy_of_a_stopped_store_changes_nothing(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = start_broker()
    broker.api.ok_publish("t", 1)
    broker.kill()
    before = {path.name: path.read_bytes() for path in broker.folder.glob("broker.db*")}

    done = run_broker(
        "backup", tmp_path / "copy.db", BROKER_STORE=f"sqlite:///{broker.folder}/broker.db"
    )

    assert done.returncode == 0, done.stderr
    after = {path.name: path.read_bytes() for path in broker.folder.glob("broker.db*")}
    assert {name: after[name] for name in before if name != "broker.db-shm"} == {
        name: content for name, content in before.items() if name != "broker.db-shm"
    }
    assert run_broker("check", tmp_path / "copy.db").returncode == 0


def test_nothing_is_overwritten(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = start_broker()
    file, folder = tmp_path / "copy.db", tmp_path / "folder"
    file.write_text("precious")
    folder.mkdir()

    for destination in (file, folder, broker.folder / "broker.db"):
        done = run_broker("backup", destination, "--store", broker.folder)
        assert done.returncode == 1
        assert "exists already" in done.stderr

    assert file.read_text() == "precious"
    assert list(folder.iterdir()) == []
    assert broker.is_ready()


@pytest.mark.parametrize("destination", ["no/such/folder/copy.db", "/proc/copy.db"])
def test_destination_that_cannot_be_written_is_refused(
    start_broker: StartBroker, tmp_path: Path, destination: str
) -> None:
    broker = start_broker()

    done = run_broker("backup", tmp_path / destination, "--store", broker.folder)

    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_what_is_no_store_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"something else " * 1000)
    sqlite3.connect(tmp_path / "empty.db").close()

    for name in ("other.db", "empty.db", "missing.db"):
        done = run_broker("backup", tmp_path / "copy.db", "--store", tmp_path / name)
        assert done.returncode == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr

    assert not [path.name for path in tmp_path.iterdir() if "copy" in path.name]


def test_publishing_goes_on_beside_a_long_reader(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.api.ok_publish("t", 0)
    worker = broker.worker().pid
    reader = sqlite3.connect(broker.folder / "broker.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM block").fetchone()
    log = broker.folder / "broker.db-wal"
    limit = 34 * 1024 * 1024

    size = 0
    while size < 2 * limit:  # longer than the log may get without a reader
        body = os.urandom(1_000_000)
        answer = broker.api.post("t", body, {"content-type": "application/octet-stream"})
        assert answer.status_code == 201
        size = log.stat().st_size
    reader.close()

    def shrunk() -> bool:
        broker.api.ok_publish("t", 1)
        return log.stat().st_size < size

    eventually(shrunk)
    assert broker.worker().pid == worker
