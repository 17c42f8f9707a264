"""`broker keys`, at a broker that wants keys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.broker_process import BrokerProcess
from support.command import Terminal, run_broker

ADMIN_KEY = "an-admin-key-of-these-tests"
OWN_KEY = "a-key-of-our-own-with-32-characters-or-more"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with keys on."""
    running = BrokerProcess(
        tmp_path_factory.mktemp("guarded"), BROKER_API_KEYS="on", BROKER_ADMIN_KEY=ADMIN_KEY
    )
    with closing(running.start()):
        yield running


@pytest.fixture
def settings(guarded: BrokerProcess) -> Iterator[dict[str, str]]:
    """What the command is told about the broker; keys that a test leaves behind are deleted."""
    told = {"BROKER_URL": guarded.base_url, "BROKER_API_KEY": ADMIN_KEY}
    yield told
    for key in json.loads(run_broker("keys", "list", "--json", **told).stdout)["keys"]:
        assert run_broker("keys", "delete", key["id"], "--yes", **told).returncode == 0


def done(
    settings: dict[str, str], *arguments: str | Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command that is done."""
    ended = run_broker("keys", *arguments, stdin=stdin, **settings)
    assert ended.returncode == 0, ended.stderr
    return ended


def refused(settings: dict[str, str], *arguments: str, stdin: str = "") -> str:
    """Run a command that is refused, and give what it says on the standard error."""
    ended = run_broker("keys", *arguments, stdin=stdin, **settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def status_with(guarded: BrokerProcess, key: str) -> int:
    """Ask for the topics with a key."""
    headers = {"authorization": f"Bearer {key}"}
    return guarded.api.http.get("/v1/topics", headers=headers).status_code


def test_new_key_is_all_that_is_printed_and_opens_what_it_may(
    guarded: BrokerProcess, settings: dict[str, str]
) -> None:
    made = done(settings, "create", "shop", "read:*", "publish:order")

    key = made.stdout.removesuffix("\n")
    assert key.startswith("brk_")
    assert "\n" not in key
    assert "once" in made.stderr
    assert key not in made.stderr
    assert status_with(guarded, key) == 200


def test_keys_are_listed_and_shown_without_themselves(settings: dict[str, str]) -> None:
    made = json.loads(done(settings, "create", "shop", "read:*", "publish:order", "--json").stdout)

    header, row = done(settings, "list").stdout.splitlines()
    assert header.split() == ["ID", "NAME", "SCOPES", "CREATED", "LAST", "USED", "RATE"]
    assert row.split()[:4] == [made["id"], "shop", "read:*,", "publish:order"]
    assert row.endswith(" -")
    shown = done(settings, "show", made["id"]).stdout.splitlines()
    assert [line.split(None, 1)[1] for line in shown[:3]] == [
        made["id"],
        "shop",
        "read:*, publish:order",
    ]

    key = made.pop("key")
    as_json = done(settings, "show", made["id"], "--json").stdout
    assert json.loads(as_json) == made
    assert json.loads(done(settings, "list", "--json").stdout) == {"keys": [made]}
    assert key not in as_json


def test_no_keys_are_said_to_be_none(settings: dict[str, str]) -> None:
    listed = done(settings, "list")

    assert (listed.stdout, listed.stderr) == ("", "There are no keys.\n")


def test_key_of_ones_own_is_not_printed_and_may_be_brought_again(
    guarded: BrokerProcess, settings: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(OWN_KEY + "\n")

    first = done(settings, "create", "shop", "read:*", "--key-file", file)
    again = done(settings, "create", "shop", "read:*", "--key-file", "-", stdin=OWN_KEY)

    assert first.stdout.startswith("Key shop is created, with the id ")
    assert "nothing was changed" in again.stdout
    assert OWN_KEY not in first.stdout + first.stderr + again.stdout + again.stderr
    assert status_with(guarded, OWN_KEY) == 200


def test_deleted_key_opens_nothing(guarded: BrokerProcess, settings: dict[str, str]) -> None:
    made = json.loads(done(settings, "create", "shop", "admin", "--json").stdout)
    assert status_with(guarded, made["key"]) == 200

    said = done(settings, "delete", made["id"], "--yes").stdout

    assert said == f"Key {made['id']} is deleted.\n"
    assert status_with(guarded, made["key"]) == 401


def test_question_names_the_key_and_its_last_use(
    guarded: BrokerProcess, settings: dict[str, str]
) -> None:
    made = json.loads(done(settings, "create", "shop", "read:*", "--json").stdout)

    with Terminal("keys", "delete", made["id"], **settings) as terminal:
        terminal.type("n", after="Whoever has key shop is shut out; it was never used.")
        assert terminal.wait() == 1
    assert status_with(guarded, made["key"]) == 200
    with Terminal("keys", "delete", made["id"], **settings) as terminal:
        terminal.type("y", after="Whoever has key shop is shut out; it was last used at 20")
        assert terminal.wait() == 0

    assert status_with(guarded, made["key"]) == 401


def test_what_no_key_can_be_is_refused_by_field(settings: dict[str, str]) -> None:
    said = refused(settings, "create", "a b", "publish:order", "write:order", "admin:x")
    for field in ("name", "scopes[1]", "scopes[2]"):
        assert f"{field}: " in said

    said = refused(settings, "create", "shop", "admin", "--key-file", "-", stdin="too-short")
    assert "key: must be 32 to 256" in said
    assert "too-short" not in said


def test_taken_name_is_refused(settings: dict[str, str]) -> None:
    done(settings, "create", "shop", "read:*")

    assert 'named "shop"' in refused(settings, "create", "shop", "read:*")
    assert len(json.loads(done(settings, "list", "--json").stdout)["keys"]) == 1


def test_key_without_admin_makes_none(settings: dict[str, str]) -> None:
    made = done(settings, "create", "shop", "read:*", "publish:*", "subscribe:*")

    said = refused(
        {**settings, "BROKER_API_KEY": made.stdout.strip()}, "create", "another", "admin"
    )

    assert "admin" in said


def test_ids_are_completed(settings: dict[str, str]) -> None:
    made = json.loads(done(settings, "create", "shop", "read:*", "--json").stdout)
    line = f"broker keys show {made['id'][:4]}"

    completed = run_broker(
        COMP_WORDS=line, COMP_CWORD="3", _BROKER_COMPLETE="bash_complete", **settings
    )

    assert completed.stdout == f"plain,{made['id']}\n"


def test_delete_without_a_terminal_needs_a_yes() -> None:
    ended = run_broker("keys", "delete", "some-id", BROKER_URL="http://127.0.0.1:1")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--yes" in ended.stderr


def test_file_that_is_no_text_is_wrong_use() -> None:
    ended = run_broker(
        *("keys", "create", "shop", "admin", "--key-file", "-"),
        stdin=b"\xff\xfe",
        BROKER_URL="http://127.0.0.1:1",
    )

    assert (ended.returncode, ended.stdout) == (2, "")
