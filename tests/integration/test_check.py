"""`broker check`: a store is in order, or it is told what is wrong with it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api import QUICK_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import Json, event
from support.command import run_broker
from support.endpoint import Answer, Endpoint, Received
from support.eventually import eventually

LATER = "2099-01-01T00:00:00Z"


def answer(request: Received) -> Answer:
    """Take, refuse, fail or keep waiting, as the key asks for."""
    return {
        "dead": Answer(422),
        "failing": Answer(500),
        "slow": Answer(delay_s=60),
    }.get(request.key or "", Answer())


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a broker killed with something in every table."""
    folder = tmp_path_factory.mktemp("left")
    broker = BrokerProcess(folder)
    with Endpoint(answer) as endpoint:
        try:
            fill(broker.start().api, endpoint.url)
            broker.kill()
        finally:
            broker.close()
    return folder


def fill(api: Api, url: str) -> None:
    """Leave something in every table."""
    api.put_topic("t", retention={"max_messages": 20})
    api.ok_subscribe("t", url, retry=SLOW_RETRY, timeout_s=100)
    api.ok_subscribe("t", url, "again", retry={**QUICK_RETRY, "max_attempts": 1})
    api.ok_subscribe("t", url, "ordered", ordering="topic", format="batch")
    good(api.put_subscription("u", "pull"))
    keys = ["dead", None, "failing", "slow", "failing", "ada", "slow", "dead", "failing"]
    events = [
        event(id=f"{n}", **({"partitionkey": key} if key else {})) for n, key in enumerate(keys * 5)
    ]
    for each in events:  # a row each
        good(api.publish_batch("t", [each]))
    for first in (100, 200):
        # A row for all of them, of which some have no data.
        members = [{"data": n} if n % 3 else {} for n in range(20)]
        good(api.publish_batch("u", [event(id=f"{first + n}", **m) for n, m in enumerate(members)]))
    api.ok_publish("u", 1)
    good(api.publish("u", 2, deliverat=LATER, key="later"))
    good(api.publish("u", 3, deliverat=LATER, id="mine"))
    api.put_topic("gone")
    api.delete_topic("gone")
    api.put_topic("large")
    good(api.publish_batch("large", [event(id=f"{n}", data="x" * 200) for n in range(20)]))
    eventually(lambda: api.ok_status("t", "again")["dead_letters"] >= 10)


@pytest.fixture
def file(left: Path, tmp_path: Path) -> Path:
    """A copy of that store."""
    for suffix in ("", "-wal"):
        shutil.copyfile(left / f"broker.db{suffix}", tmp_path / f"broker.db{suffix}")
    return tmp_path / "broker.db"


@pytest.fixture
def broker(file: Path) -> Iterator[BrokerProcess]:
    """A broker on that copy."""
    process = BrokerProcess(file.parent)
    yield process.start()
    process.close()


def checked(path: Path) -> tuple[int, Json]:
    """Check a store; return the exit code and the report."""
    done = run_broker("check", "--json", path)
    assert done.stderr == ""
    report: Json = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    return done.returncode, report


def faults_of(path: Path) -> dict[str, list[str]]:
    """Check a store that is not in order; return the faults by what has them."""
    code, report = checked(path)
    assert code == 1
    return {each["what"]: each["faults"] for each in report["checked"] if each["faults"]}


def change(path: Path, *statements: str) -> None:
    """Do to a store what nobody should."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.close()


def test_store_of_a_broker_that_was_killed_is_in_order_and_left_alone(file: Path) -> None:
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}

    code, report = checked(file.parent)

    assert (code, report["schema"]) == (0, 7)
    looked_at = {each["what"]: each["looked_at"] for each in report["checked"]}
    assert looked_at["topics"] in {3, 4}  # the deleted one may not have gone yet
    assert looked_at["subscriptions"] == looked_at["configurations"] - 3 == 4
    assert all(looked_at[what] > 0 for what in looked_at)
    after = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    assert after.items() >= before.items()


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill])
def test_store_is_in_order_after_another_life(
    broker: BrokerProcess, end: Callable[[BrokerProcess], object]
) -> None:
    broker.api.put_subscription("t", "again", max_backlog_age_s=1)
    broker.api.delete_subscription("t", "ordered")
    eventually(lambda: broker.api.ok_status("t", "again")["backlog"] == 0)
    end(broker)

    assert checked(broker.folder)[0] == 0


def test_table_is_for_people(file: Path) -> None:
    done = run_broker("check", file)

    assert done.returncode == 0
    assert "All is well." in done.stdout
    assert "subscriptions" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("how", ["setting", "url", "file", "folder"])
def test_store_is_found_by_its_url_file_or_folder(file: Path, how: str) -> None:
    done = {
        "setting": lambda: run_broker("check", BROKER_STORE=f"sqlite:///{file}"),
        "url": lambda: run_broker("check", "--store", f"sqlite:///{file}"),
        "file": lambda: run_broker("check", "--store", file),
        "folder": lambda: run_broker("check", file.parent),
    }[how]()

    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout


CHANGES: list[tuple[str, str, str]] = [
    ("UPDATE topic SET message_count = message_count + 1 WHERE name = 't'", "topics", "topic t"),
    ("UPDATE topic SET bytes = bytes - 1 WHERE name = 't'", "topics", "bytes"),
    ("UPDATE topic SET scheduled_count = 7 WHERE name = 'u'", "topics", "wait for their time"),
    ("DELETE FROM small_block WHERE topic = 1 AND seq = 41", "topics", "topic t"),
    ("DELETE FROM large_block", "topics", "topic large"),
    ("UPDATE large_block SET topic = 77", "messages", "77"),
    ("UPDATE large_block SET parts = '['", "messages", "not what it says"),
    ("UPDATE large_block SET seq = seq + 5", "known ids", "the id"),
    ("INSERT INTO small_block SELECT * FROM large_block", "messages", "overlap"),
    ("UPDATE small_block SET topic = 77 WHERE topic = 2", "messages", "77"),
    ("UPDATE small_block SET attributes = x'7b' WHERE seq = 45", "messages", "message 45"),
    ("UPDATE small_block SET key = 'other' WHERE seq = 43 AND topic = 1", "messages", "message 43"),
    ("UPDATE small_block SET parts = '[' WHERE parts IS NOT NULL", "messages", "not what it says"),
    ("UPDATE small_block SET parts = '[1, \"2\"]' WHERE parts IS NOT NULL", "messages", "says"),
    ("UPDATE small_block SET parts = replace(parts, '[null,', '[\"x\",')", "messages", "a key"),
    ("UPDATE small_block SET parts = '{\"a\":1}' WHERE parts IS NOT NULL", "messages", "says"),
    ("UPDATE small_block SET parts = CAST(x'5bff' AS TEXT) WHERE topic = 2", "messages", "be read"),
    ("UPDATE publish_key SET id = CAST(x'ff' AS TEXT) WHERE id = '40'", "known ids", "be read"),
    ("UPDATE small_block SET attributes = x'7bff' WHERE seq = 44", "messages", "message 44"),
    ("UPDATE small_block SET seq = -50 WHERE topic = 2 AND seq = 1", "messages", "log's first"),
    ("UPDATE small_block SET data = zeroblob(3) WHERE parts IS NOT NULL", "messages", "says"),
    ("UPDATE small_block SET seq = 20 WHERE topic = 2 AND seq = 21", "messages", "overlap"),
    ("UPDATE publish_key SET seq = 30 WHERE id = '40'", "known ids", "the id 40"),
    ("UPDATE publish_key SET seq = 1000 WHERE id = '40'", "known ids", "1000"),
    ("UPDATE id_run SET seq = seq + 1 WHERE first = '100'", "runs of ids", "the id 103"),
    ("UPDATE id_run SET seq = 1000 WHERE first = '100'", "runs of ids", "1000"),
    ("UPDATE id_run SET topic = 77", "runs of ids", "77"),
    ("UPDATE id_run SET first = '099' WHERE first = '100'", "runs of ids", "from 099"),
    ("UPDATE id_run SET ids = '[' WHERE first = '100'", "runs of ids", "from 100"),
    (
        "UPDATE id_run SET ids = replace(ids, '\"105\"', '\"109\"') WHERE first = '100'",
        "runs of ids",
        "from 100",
    ),
    ("UPDATE id_run SET fingerprints = x'00'", "runs of ids", "from 200"),
    ("UPDATE id_run SET last = '200' WHERE first = '100'", "runs of ids", "overlap"),
    ("DELETE FROM scheduled WHERE message_id = 'mine'", "known ids", "the id mine"),
    ("UPDATE subscription SET position = 1000 WHERE name = 'pull'", "subscriptions", "u/pull"),
    ("UPDATE subscription SET topic = 50 WHERE name = 'pull'", "subscriptions", "pull"),
    (
        "DELETE FROM small_block WHERE seq = "
        "(SELECT min(seq) FROM exception WHERE state = 'dead') AND topic = 1",
        "deliveries",
        "t/again",
    ),
    ("UPDATE exception SET key = 'other' WHERE state = 'dead'", "deliveries", "another key"),
    ("UPDATE exception SET due_at = 9e999 WHERE state = 'retry'", "deliveries", "retry"),
    ("UPDATE attempt SET attempt = 0", "failed attempts", "has the number 0"),
    ("DELETE FROM document WHERE key = 'topic/t'", "configurations", "topic t"),
    ("DELETE FROM document WHERE key = 'subscription/u/pull'", "configurations", "u/pull"),
    (
        "INSERT INTO document VALUES ('subscription/t/ghost', '{}', 1)",
        "configurations",
        "t/ghost",
    ),
    ("UPDATE document SET body = '[' WHERE key = 'topic/t'", "configurations", "topic/t"),
    ("INSERT INTO log VALUES ('another', 1.0)", "log id", "2 log ids"),
]


@pytest.mark.parametrize(("statement", "what", "told"), CHANGES)
def test_fault_is_told(file: Path, statement: str, what: str, told: str) -> None:
    change(file, statement)

    faults = faults_of(file)

    assert any(told in fault for fault in faults[what]), faults
    table = run_broker("check", file)
    assert table.returncode == 1
    assert told in table.stdout
    assert "There are faults" in table.stdout


def test_impossible_state_is_told(file: Path) -> None:
    change(
        file,
        "PRAGMA ignore_check_constraints=ON",
        "UPDATE exception SET state = 'lost' WHERE state = 'dead'",
    )

    assert any("lost" in fault for fault in faults_of(file)["deliveries"])


def test_many_faults_are_counted_and_the_first_told(file: Path) -> None:
    change(file, "UPDATE small_block SET key = 'other'")

    _, report = checked(file)

    (messages,) = (each for each in report["checked"] if each["what"] == "messages")
    assert messages["fault_count"] > len(messages["faults"]) == 20


def test_torn_pages_are_told(broker: BrokerProcess, file: Path) -> None:
    broker.stop()
    content = bytearray(file.read_bytes())
    content[5 * 8192 : 5 * 8192 + 4000] = b"\xff" * 4000
    file.write_bytes(content)

    assert "file" in faults_of(file)


@pytest.mark.parametrize("content", [b"", b"not a database " * 1000])
def test_what_is_no_store_cannot_be_checked(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broker.db"
    file.write_bytes(content)

    done = run_broker("check", file)

    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert "All is well" not in done.stdout


def test_missing_store_cannot_be_checked(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.db", tmp_path):
        done = run_broker("check", path)
        assert done.returncode == 2
        assert str(path) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_store_of_a_newer_broker_is_not_judged(file: Path) -> None:
    connection = sqlite3.connect(file.parent / "broker.db", isolation_level=None)
    connection.execute("PRAGMA user_version=99")
    connection.close()

    done = run_broker("check", file.parent)

    assert done.returncode == 2
    assert "newer broker" in done.stderr


def test_store_in_use_is_not_checked(broker: BrokerProcess, file: Path) -> None:
    done = run_broker("check", file.parent)

    assert done.returncode == 2
    assert "Another broker is using" in done.stderr
    assert broker.is_ready()


def test_wrong_use_is_refused() -> None:
    assert run_broker("check", "--loudly").returncode == 2
    assert run_broker("check", "--store", "nats://x").returncode == 2
