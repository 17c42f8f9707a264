"""`broker check`: verify a store that no broker uses."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.failure import WrongUse
from broker.cli.progress import signs_of_life
from broker.cli.remote import Remote
from broker.cli.table import table

if TYPE_CHECKING:
    from broker.store.sqlite.check import Report


@click.command("check")
@click.argument("path", required=False, metavar="[PATH]", type=click.Path())
@click.option("--store", metavar="URL", help="The store; BROKER_STORE if not given.")
@click.option("--json", "as_document", is_flag=True, help="Write JSON instead of a table.")
def command(path: str | None, store: str | None, as_document: bool) -> None:
    """Verify a data folder that no broker uses.

    PATH is the store's file, or the folder it is in. Nothing is changed. Encrypted secrets are
    decrypted where BROKER_ENCRYPTION_KEY is set. Exit code 0: all is well; 1: there are faults;
    2: it cannot be checked.
    """
    from broker.cli.places import cipher_in, store_file
    from broker.config import WrongSetting
    from broker.store.port import Locked, Unusable
    from broker.store.sqlite.check import check

    try:
        file = store_file(path or store, os.environ)
        with signs_of_life("looking at the file") as tell:
            report = check(
                file, lambda what: tell(f"still looking at {what}"), cipher_in(os.environ)
            )
    except (Locked, Unusable, WrongSetting) as refused:
        raise WrongUse(str(refused)) from None
    click.echo(
        as_json(file, report)
        if as_document or Remote(click.get_current_context()).as_json
        else as_table(file, report)
    )
    sys.exit(0 if report.ok else 1)


def as_json(path: Path, report: "Report") -> str:
    """Render a report for programs."""
    found = {"store": str(path), "ok": report.ok, **asdict(report)}
    return json.dumps(found, indent=2)


def as_table(path: Path, report: "Report") -> str:
    """Render a report for people."""
    rows = [
        (each.what, f"{each.looked_at:,}", f"{each.fault_count:,}", each.note)
        for each in report.checked
    ]
    lines = [f"{path}, schema {report.schema}", ""]
    lines += table(("what", "looked at", "faults", ""), rows, right=(1, 2))
    for each in report.checked:
        if each.faults:
            lines += ["", f"{each.what}:"]
            lines += [f"  {fault}" for fault in each.faults]
            if each.fault_count > len(each.faults):
                lines.append(f"  … and {each.fault_count - len(each.faults):,} more")
    faults = sum(each.fault_count for each in report.checked)
    lines += ["", "All is well." if report.ok else f"There are faults: {faults:,}."]
    return "\n".join(lines)
