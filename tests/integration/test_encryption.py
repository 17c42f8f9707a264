"""Secrets in the data folder are encrypted, and nothing of them is left as it was before."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import Json, event
from support.command import run_broker
from support.endpoint import Endpoint, Received
from support.eventually import eventually
from support.signature import entries, expected_entry, new_secret

KEY, NEXT_KEY, OTHER_KEY = "ab" * 32, "cd" * 32, "ef" * 32
ID, NEXT_ID = "82037fa1", "05e43309"
OLD, NEW, GONE = new_secret(1), new_secret(2), new_secret(3)
HEADER, OLD_HEADER = "Bearer hush-hush", "Bearer hush-before"
SECRETS = (OLD, NEW, GONE, HEADER, OLD_HEADER)


def fill(api: Api, url: str, churn: int = 2) -> None:
    """Leave secrets that count, and ones that did: rotated out, replaced, deleted."""
    api.ok_subscribe("t", url, "gone", secret=GONE, headers={"x-token": HEADER})
    api.ok_subscribe("t", url, secret=OLD, headers={"authorization": OLD_HEADER})
    good(api.put_subscription("t", "s", headers={"authorization": HEADER}))
    for n in range(churn):  # documents split pages, and leave their bytes in what was free
        api.ok_subscribe("t", url, f"x{n}", secret=GONE, headers={"x-token": HEADER * 20})
    good(api.publish_batch("t", [event(id=str(n)) for n in range(200)]))
    for n in range(churn):
        api.delete_subscription("t", f"x{n}")
    api.delete_subscription("t", "gone")
    good(api.put_subscription("t", "s", secret=NEW))


def leaks(*files: Path) -> set[str]:
    """Say which secrets stand in files, or a part of one that is as good as all of it."""
    content = b"".join(file.read_bytes() for file in files)
    return {secret for secret in SECRETS if secret.removeprefix("whsec_").encode() in content}


def data_of(broker: BrokerProcess) -> list[Path]:
    return list(broker.folder.glob("broker.db*"))


def rows_of(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Read all that a store holds."""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in tables
        }
    finally:
        connection.close()


def signed(api: Api, endpoint: Endpoint) -> Received:
    """Publish a message and give the request that brings it."""
    sequence = api.ok_publish("t", {"n": 1})
    return eventually(lambda: next((r for r in endpoint.requests if sequence in r.sequences), None))


def require_as_before(api: Api, endpoint: Endpoint) -> None:
    """Insist that both secrets sign, and that the header is sent."""
    request = signed(api, endpoint)
    assert sorted(entries(request)) == sorted(expected_entry(request, s) for s in (OLD, NEW))
    assert request.headers["authorization"] == HEADER


def checked(path: Path, **settings: str) -> tuple[int, Json]:
    """Check a store; return the exit code and what is told of its secrets."""
    done = run_broker("check", "--json", path, **settings)
    assert done.stderr == ""
    (told,) = [each for each in json.loads(done.stdout)["checked"] if each["what"] == "secrets"]
    return done.returncode, told


def refused(broker: BrokerProcess) -> str:
    """Start a broker that has to end, and give what it says."""
    before = len(broker.log())
    broker.launch()
    assert broker.wait() != 0
    log = broker.log()[before:]
    assert "Traceback" not in log
    return log


def test_without_a_key_secrets_are_stored_as_they_are(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    fill(broker.api, endpoint.url)
    broker.stop()

    assert leaks(*data_of(broker)) >= {OLD, NEW, HEADER}
    assert checked(broker.folder)[1]["note"] == "3 as they are"


def test_with_a_key_no_secret_is_ever_in_the_files(
    start_broker: StartBroker, endpoint: Endpoint, tmp_path: Path
) -> None:
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    fill(broker.api, endpoint.url)
    require_as_before(broker.api, endpoint)
    assert leaks(*data_of(broker)) == set()
    made = run_broker("backup", tmp_path / "copy.db", "--store", broker.folder)
    assert made.returncode == 0

    broker.kill()
    assert leaks(tmp_path / "copy.db", *data_of(broker)) == set()
    require_as_before(broker.start().api, endpoint)
    broker.stop()
    assert leaks(*data_of(broker)) == set()


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill])
def test_key_that_is_set_later_leaves_nothing_of_what_was_there(
    start_broker: StartBroker,
    endpoint: Endpoint,
    tmp_path: Path,
    end: Callable[[BrokerProcess], object],
) -> None:
    broker = start_broker()
    fill(broker.api, endpoint.url, churn=40)
    end(broker)
    assert leaks(*data_of(broker)) >= {OLD, NEW, HEADER}, "else this test sees nothing"

    broker.set(BROKER_ENCRYPTION_KEY=KEY)
    require_as_before(broker.start().api, endpoint)
    assert leaks(*data_of(broker)) == set()
    assert len(list(broker.api.all_messages("t"))) == 201
    assert "secrets_encrypted" in broker.log()

    assert run_broker("backup", tmp_path / "copy.db", "--store", broker.folder).returncode == 0
    broker.stop()
    assert leaks(tmp_path / "copy.db", *data_of(broker)) == set()
    code, told = checked(broker.folder, BROKER_ENCRYPTION_KEY=KEY)
    assert (code, told["note"]) == (0, f"3 encrypted with {ID}")


def test_key_may_be_in_a_file(
    start_broker: StartBroker, endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    broker = start_broker(BROKER_ENCRYPTION_KEY_FILE=str(tmp_path / "key"))
    fill(broker.api, endpoint.url)

    require_as_before(broker.api, endpoint)
    assert leaks(*data_of(broker)) == set()


@pytest.mark.parametrize("key", [None, OTHER_KEY, f"{OTHER_KEY} {NEXT_KEY}"])
@pytest.mark.parametrize("subscribed", [True, False])
def test_start_without_the_key_is_refused_and_changes_nothing(
    start_broker: StartBroker, endpoint: Endpoint, key: str | None, subscribed: bool
) -> None:
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    good(broker.api.put_topic("t"))
    if subscribed:
        fill(broker.api, endpoint.url)
        eventually(lambda: broker.api.backlog("t") == 0)
    broker.stop()
    before = rows_of(broker.folder / "broker.db")

    broker.set(BROKER_ENCRYPTION_KEY=key)
    if key is not None and not subscribed:
        broker.start()  # nothing needs the old one
        return
    log = refused(broker)

    assert "BROKER_ENCRYPTION_KEY" in log
    assert ID in log
    assert rows_of(broker.folder / "broker.db") == before
    broker.set(BROKER_ENCRYPTION_KEY=KEY)
    broker.start()
    if subscribed:
        require_as_before(broker.api, endpoint)


def test_keys_are_replaced_in_two_starts(
    start_broker: StartBroker, endpoint: Endpoint, tmp_path: Path
) -> None:
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    fill(broker.api, endpoint.url)
    broker.stop()
    sealed = sealed_in(broker.folder / "broker.db")

    broker.set(BROKER_ENCRYPTION_KEY=f"{NEXT_KEY},{KEY}")
    require_as_before(broker.start().api, endpoint)
    broker.stop()
    content = b"".join(file.read_bytes() for file in data_of(broker))
    assert not [text for text in sealed if text.encode() in content]
    assert checked(broker.folder)[1]["note"] == f"3 encrypted with {NEXT_ID}"

    broker.set(BROKER_ENCRYPTION_KEY=NEXT_KEY)
    require_as_before(broker.start().api, endpoint)
    broker.stop()
    assert checked(broker.folder, BROKER_ENCRYPTION_KEY=NEXT_KEY)[0] == 0
    code, told = checked(broker.folder, BROKER_ENCRYPTION_KEY=KEY)
    assert code == 1
    assert NEXT_ID in told["faults"][0]


def sealed_in(file: Path) -> list[str]:
    """List what a store has of encrypted secrets."""
    (subscription,) = [
        json.loads(str(body))
        for key, body, _ in rows_of(file)["document"]
        if str(key).startswith("subscription/")
    ]
    values = [
        subscription["secret"],
        *(old["secret"] for old in subscription["old_secrets"]),
        *subscription["headers"].values(),
    ]
    assert len(values) == 3
    return [value["sealed"] for value in values]


def test_replacing_that_was_cut_off_goes_on(start_broker: StartBroker, endpoint: Endpoint) -> None:
    """Killed while it encrypts anew: some subscriptions have the new key, some the old one."""
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    for n in range(200):
        good(broker.api.put_subscription("u", f"s{n}", secret=GONE))
    fill(broker.api, endpoint.url)
    broker.stop()
    db = broker.folder / "broker.db"
    before = rows_of(db)["document"]

    broker.set(BROKER_ENCRYPTION_KEY=f"{NEXT_KEY} {KEY}")
    broker.start().stop()
    half = [row for row in before if str(row[0]) > "subscription/u/s5"]
    assert 0 < len(half) < len(before)
    put_back(db, half)

    require_as_before(broker.start().api, endpoint)
    broker.stop()
    assert checked(broker.folder)[1]["note"] == f"203 encrypted with {NEXT_ID}"


def put_back(db: Path, documents: Iterable[tuple[object, ...]]) -> None:
    connection = sqlite3.connect(db, isolation_level=None)
    connection.executemany("REPLACE INTO document VALUES (?, ?, ?)", documents)
    connection.execute("DELETE FROM document WHERE key = 'encryption'")
    connection.close()


def test_secret_put_in_the_place_of_another_is_found_out(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    broker.api.ok_subscribe("t", endpoint.url, "mine", secret=NEW)
    broker.api.ok_subscribe("t", endpoint.url, "theirs", secret=OLD)
    broker.stop()
    connection = sqlite3.connect(broker.folder / "broker.db", isolation_level=None)
    connection.execute(
        """UPDATE document SET body = json_replace(body, '$.secret', (SELECT json_extract(
           body, '$.secret') FROM document WHERE key = 'subscription/t/mine'))
           WHERE key = 'subscription/t/theirs'"""
    )
    connection.close()

    code, told = checked(broker.folder, BROKER_ENCRYPTION_KEY=KEY)
    assert (code, told["fault_count"]) == (1, 1)
    assert "subscription/t/theirs" in told["faults"][0]
    log = refused(broker)
    assert "subscription/t/theirs" in log
    assert "BROKER_ENCRYPTION_KEY" in log


def test_copy_of_an_encrypted_store_needs_the_key(
    start_broker: StartBroker, endpoint: Endpoint, tmp_path: Path
) -> None:
    broker = start_broker(BROKER_ENCRYPTION_KEY=KEY)
    fill(broker.api, endpoint.url)
    assert run_broker("backup", tmp_path / "copy.db", "--store", broker.folder).returncode == 0
    broker.stop()
    (tmp_path / "restored").mkdir()
    shutil.copyfile(tmp_path / "copy.db", tmp_path / "restored" / "broker.db")
    restored = BrokerProcess(tmp_path / "restored")
    try:
        assert "BROKER_ENCRYPTION_KEY is not set" in refused(restored)
        restored.set(BROKER_ENCRYPTION_KEY=KEY)
        require_as_before(restored.start().api, endpoint)
    finally:
        restored.close()


def test_reader_beside_the_start_puts_the_cleaning_off(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    fill(broker.api, endpoint.url)
    broker.stop()
    reader = sqlite3.connect(broker.folder / "broker.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM block").fetchone()

    broker.set(BROKER_ENCRYPTION_KEY=KEY)
    require_as_before(broker.start().api, endpoint)
    assert "not_scrubbed" in broker.log()
    broker.stop()
    reader.close()

    broker.start().stop()
    assert "secrets_encrypted" in broker.log()
    assert leaks(*data_of(broker)) == set()


def test_keys_without_encryption_are_warned_of_once(start_broker: StartBroker) -> None:
    keys = {"BROKER_API_KEYS": "on", "BROKER_ADMIN_KEY": "the-key-of-the-admin"}
    plain, encrypted = start_broker(**keys), start_broker(**keys, BROKER_ENCRYPTION_KEY=KEY)

    assert plain.log().count("BROKER_ENCRYPTION_KEY") == 1
    assert "BROKER_ENCRYPTION_KEY" not in encrypted.log()
    assert KEY not in encrypted.log()
