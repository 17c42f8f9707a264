"""The targets: the modules of `fuzz.targets`, each with a `check` that takes hostile bytes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
NAMES = tuple(sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py")))

Check = Callable[[bytes], None]


def check_of(name: str) -> Check:
    """Import a target. What its check raises, whatever it is, is a fault of the project's."""
    check: Check = import_module(f"fuzz.targets.{name}").check
    return check


def seeds_of(name: str) -> list[Path]:
    """List a target's seeds: what it should begin with, and what once was a fault."""
    return sorted((SEEDS / name).iterdir())
