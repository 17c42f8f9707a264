"""Verifying a store that no broker uses."""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from broker.encryption import Cipher, Place, Sealed, Tampered, UnknownKey, key_id_of
from broker.store.port import Unusable
from broker.store.sealed import secrets_in
from broker.store.sqlite.block_check import add_functions
from broker.store.sqlite.connection import (
    FolderLock,
    is_read_only,
    newest_schema,
    open_untouched,
    schema_of,
)
from broker.store.sqlite.queries import CHECKS
from broker.subscription import Subscription
from broker.topic import Topic

FAULTS_TOLD = 20
PROGRESS_INSTRUCTIONS = 200_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at: how many there are, the first of the faults, and how many there are.

    A note tells of what is in order and worth knowing.
    """

    what: str
    looked_at: int
    faults: tuple[str, ...] = ()
    fault_count: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `schema` is the file's."""

    schema: int
    checked: tuple[Checked, ...]

    @property
    def ok(self) -> bool:
        """Say whether no fault was found."""
        return not any(each.fault_count for each in self.checked)


@dataclass(frozen=True, slots=True)
class _Part:
    """A table, the queries that tell of its faults, and those that count what is to be removed."""

    what: str
    table: str
    faults: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    count: str = "count(*)"


_PARTS = (
    _Part("log id", "log", ("log_identity",)),
    _Part("topics", "topic", ("topic_counts", "topic_scheduled", "topic_ids")),
    _Part(
        "messages",
        "block",
        ("message_topic", "message_content", "message_place", "message_gone"),
        ("message_unneeded",),
        "coalesce(sum(messages_of(parts)), 0)",
    ),
    _Part("waiting messages", "scheduled", ("scheduled_topic", "scheduled_content")),
    _Part("known ids", "publish_key", ("id_topic", "id_message", "id_scheduled")),
    _Part(
        "runs of ids", "id_run", ("run_topic", "run_content", "run_place", "run_message", "run_end")
    ),
    _Part(
        "subscriptions",
        "subscription",
        ("subscription_topic", "subscription_position", "subscription_ids"),
    ),
    _Part(
        "deliveries",
        "exception",
        ("delivery_message", "delivery_state", "delivery_place"),
        ("delivery_unowned",),
    ),
    _Part("failed attempts", "attempt", ("attempt_number",), ("attempt_unowned",)),
)


def check(
    path: Path,
    progress: Callable[[str], None] = lambda _: None,
    cipher: Cipher | None = None,
) -> Report:
    """Verify a store's file and everything in it.

    Changes nothing. `progress` is called now and then with what is being looked at. With a `cipher`
    every encrypted secret has to open. Raises Locked while a broker uses the store, Unusable if it
    cannot be read at all.
    """
    if not path.is_file():
        raise Unusable(f"There is no file {path}.")
    with contextlib.ExitStack() as stack:
        if not is_read_only(path.parent):  # where no broker could work
            lock = FolderLock(path)
            lock.acquire(wait_s=0)
            stack.callback(lock.release)
        connection = open_untouched(path, alone=True)
        stack.enter_context(contextlib.closing(connection))
        return _check(connection, progress, cipher)


def _check(
    connection: sqlite3.Connection, progress: Callable[[str], None], cipher: Cipher | None
) -> Report:
    looking_at = "the file"

    def tell() -> None:
        progress(looking_at)

    connection.set_progress_handler(tell, PROGRESS_INSTRUCTIONS)
    checked = [_checked("file", 1, _damage(connection))]
    if checked[0].fault_count:
        return Report(_version(connection), tuple(checked))
    schema = schema_of(connection)
    if not _is_store(connection):
        raise Unusable("It is a SQLite file, and not a broker's store.")
    if schema < newest_schema():
        note = f"of schema {schema}: a start of this broker makes it {newest_schema()}; then check"
        return Report(schema, (Checked("file", 1, note=note),))
    add_functions(connection)
    connection.execute("BEGIN")
    for part in _PARTS:
        looking_at = part.what
        checked.append(_check_part(connection, part))
    looking_at = "configurations"
    documents = connection.execute(CHECKS["documents"]).fetchall()
    checked.append(_check_documents(connection, documents))
    checked.append(_check_secrets(documents, cipher))
    return Report(schema, tuple(checked))


def _version(connection: sqlite3.Connection) -> int:
    with contextlib.suppress(sqlite3.Error):
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    return 0


def _is_store(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('topic', 'publish_key', 'log')"
    return bool(connection.execute(query).fetchone()[0] == 3)


def _damage(connection: sqlite3.Connection) -> Iterator[str]:
    """Have SQLite look at every page and every index."""
    try:
        for (told,) in connection.execute("PRAGMA integrity_check(1000)"):
            if told != "ok":
                yield told
    except sqlite3.DatabaseError as error:
        yield str(error)


def _check_part(connection: sqlite3.Connection, part: _Part) -> Checked:
    query = f"SELECT {part.count} FROM {part.table}"  # noqa: S608
    try:
        (count,) = connection.execute(query).fetchone()
        waiting = sum(connection.execute(CHECKS[name]).fetchone()[0] for name in part.waiting)
    except sqlite3.Error as error:  # text that is none, for example
        return _checked(part.what, 0, (f"they cannot be read: {error}",))
    note = f"{waiting} to be removed" if waiting else ""
    return _checked(part.what, count, _told(connection, part.faults), note)


def _told(connection: sqlite3.Connection, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            for (told,) in connection.execute(CHECKS[name]):
                yield str(told)
        except sqlite3.Error as error:
            yield f"not all can be read: {error}"


def _check_documents(
    connection: sqlite3.Connection, documents: Sequence[tuple[str, str]]
) -> Checked:
    faults = [
        *_told(connection, ("document_of_topic", "document_of_subscription", "document_unowned")),
        *_unreadable(documents),
    ]
    return _checked("configurations", len(documents), faults)


def _unreadable(documents: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, body in documents:
        kind, _, name = key.partition("/")
        try:
            document = msgspec.json.decode(body, type=dict)
            if kind == "topic":
                found = Topic.from_document(document).name
            elif kind == "subscription":
                subscription = Subscription.from_document(document)
                found = f"{subscription.topic}/{subscription.name}"
            else:
                continue
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError) as error:
            yield f"the configuration {key} cannot be read: {error}"
            continue
        if found != name:
            yield f"the configuration {key} is that of {found}"


def _check_secrets(documents: Iterable[tuple[str, str]], cipher: Cipher | None) -> Checked:
    kept: Counter[str] = Counter()
    faults: list[str] = []
    for key, body in documents:
        for place, value in _secrets_of(key, body):
            if not isinstance(value, dict):
                kept["as they are"] += 1
                continue
            kept[f"encrypted with {key_id_of(value)}"] += 1
            if cipher is not None and (fault := _fault_of(cipher, value, place)):
                faults.append(f"{fault}: {' '.join(place)}")
    notes = [f"{count} {how}" for how, count in kept.items()]
    return _checked("secrets", kept.total(), faults, ", ".join(notes))


def _secrets_of(key: str, body: str) -> list[tuple[Place, Any]]:
    try:
        return list(secrets_in(key, msgspec.json.decode(body, type=dict)))
    except (msgspec.DecodeError, TypeError):  # told of among the configurations
        return []


def _fault_of(cipher: Cipher, value: Sealed, place: Place) -> str | None:
    try:
        cipher.open(value, place)
    except UnknownKey as unknown:
        return f"the key {unknown} of a secret is not given"
    except Tampered:
        return "a secret cannot be decrypted"
    return None


def _checked(what: str, count: int, faults: Iterable[str], note: str = "") -> Checked:
    told: list[str] = []
    fault_count = 0
    for fault in faults:
        fault_count += 1
        if len(told) < FAULTS_TOLD:
            told.append(fault)
    return Checked(what, count, tuple(told), fault_count, note)
