"""What the page about filters says of its examples is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker.errors import Fault
from broker.filters.dialects import (
    MOST_BYTES,
    MOST_FILTERS,
    MOST_NESTING,
    read,
    wants,
)
from broker.filters.evaluation import MOST_STEPS
from broker.filters.expression import MOST_CHARACTERS, MOST_DEPTH, Expression
from broker.filters.functions import FUNCTIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "filters.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


EVENT: dict[str, Any] = json.loads(blocks("json")[0])
EXPRESSIONS = [line.split("--") for block in blocks("sql") for line in block.splitlines()]


@pytest.mark.parametrize("filter_", blocks("json filters")[0].splitlines())
def test_filter_of_the_page_holds_for_its_event(filter_: str) -> None:
    faults: list[Fault] = []
    wanted = wants(read([json.loads(filter_)], faults))
    assert faults == []
    assert wanted is not None
    assert wanted(json.dumps(EVENT).encode())


@pytest.mark.parametrize(("expression", "said"), EXPRESSIONS)
def test_expression_of_the_page_has_the_value_that_it_says(expression: str, said: str) -> None:
    value, error = Expression(expression.strip()).evaluate(EVENT)
    assert said.strip() == ", ".join(filter(None, [json.dumps(value), error]))


def test_page_has_an_example_of_each_dialect_and_names_all_functions_and_limits() -> None:
    dialects = {next(iter(json.loads(line))) for line in blocks("json filters")[0].splitlines()}
    assert dialects == {"exact", "prefix", "suffix", "all", "any", "not", "sql"}
    assert len(EXPRESSIONS) > 5
    assert all(f"`{name}`" in PAGE for name in FUNCTIONS)
    limits = (MOST_FILTERS, MOST_NESTING, MOST_CHARACTERS, MOST_DEPTH, MOST_STEPS)
    assert all(f"{limit:,}" in PAGE for limit in limits)
    assert f"{MOST_BYTES // 1024} KiB" in PAGE


def test_fault_on_the_page_is_what_is_told() -> None:
    (told,) = json.loads(blocks("json")[1])["errors"]
    faults: list[Fault] = []
    read([{"exact": {"id": "1"}}, {"any": [{"sql": "x LIKE 5"}]}], faults)
    assert {"field": faults[0].field, "message": faults[0].message} == told
