"""The page of guarantees names tests: they must be there."""

from __future__ import annotations

import re

import pytest

from e2e.stack import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_every_test_named_exists(path: str, name: str) -> None:
    source = (ROOT / path).read_text()

    assert not name or re.search(rf"^(?:async )?def {name}\(|^{name} = ", source, re.MULTILINE)


@pytest.mark.parametrize(
    "section",
    re.findall(r"^## .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL),
    ids=lambda s: s[:20],
)
def test_every_promise_names_tests(section: str) -> None:
    assert "`tests/" in section
