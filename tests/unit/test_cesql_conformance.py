"""The conformance tests of CESQL 1.0: every case of the CloudEvents project's TCK.

They are read from the folder that `CESQL_TCK` names, or `tests/data/cesql_tck`: the folder
`cesql/cesql_tck` of https://github.com/cloudevents/spec. Where there is none, they are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.filters.expression import Expression, WrongExpression

FOLDER = Path(os.environ.get("CESQL_TCK") or Path(__file__).parents[1] / "data" / "cesql_tck")
EVENT = {"specversion": "1.0", "id": "an-id", "source": "/a-source", "type": "a.type"}


class Loader(yaml.SafeLoader):
    """Leaves times and expressions as they are written: `--10` and TRUE are no YAML to CESQL."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        for name, value in node.value:
            if name.value == "expression":
                value.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def cases() -> list[Any]:
    """Read every case."""
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(FOLDER.glob("*.yaml"))
        for case in yaml.load(path.read_text("utf-8"), Loader)["tests"]
    ]


def outcome(expression: str, event: dict[str, Any]) -> tuple[Any, set[str]]:
    """Evaluate; what cannot be read has the value false."""
    try:
        value, error = Expression(expression).evaluate(event)
    except WrongExpression as wrong:
        return False, {str(wrong.error)}
    return value, set() if error is None else {str(error)}


def test_there_are_cases() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is not there")
    assert len(cases()) > 200


@pytest.mark.parametrize("case", cases())
def test_case_of_the_conformance_kit(case: dict[str, Any]) -> None:
    event = case.get("event", EVENT) | case.get("eventOverrides", {})

    value, errors = outcome(case["expression"], event)

    assert errors == ({case["error"]} if "error" in case else set())
    if "result" in case:
        assert (type(value), value) == (type(case["result"]), case["result"])
