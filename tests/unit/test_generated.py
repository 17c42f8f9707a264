"""The generated code is that of the protocol as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "proto" / "generate.py"))


@pytest.mark.parametrize("place", GENERATOR["PACKAGES"].values())
def test_generated_code_is_what_the_protocol_gives(tmp_path: Path, place: str) -> None:
    GENERATOR["generate"](tmp_path)

    made = {path.name: path.read_text() for path in (tmp_path / place).iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / place).iterdir() if path.is_file()}
    assert kept == made
