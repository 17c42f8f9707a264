"""The examples of the description: each call has them, they fit, and a broker answers so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from broker.control.examples import EXAMPLES
from support.broker_process import BrokerProcess
from support.described import Description
from support.endpoint import Endpoint
from support.order_story import OrderStory, alike

# These answer with nothing but the description itself.
OF_THEMSELVES = {"openapi", "docs"}


@pytest.fixture(scope="module")
def description(broker: Any) -> Description:
    """What the shared broker says of itself."""
    return Description(broker.api.http.get("/openapi.json").json())


def contents(description: Description) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what each call takes, and what it answers where it does what it is asked for."""
    for item in description.document["paths"].values():
        for call in item.values():
            name = call["operationId"]
            yield from (
                (f"{name}, {media_type}", each)
                for media_type, each in call.get("requestBody", {}).get("content", {}).items()
            )
            told = EXAMPLES.get(name, {}).get("status", 200)
            for status, answer in call["responses"].items():
                if status == str(told):
                    for media_type, each in description.resolved(answer).get("content", {}).items():
                        yield f"{name}, {media_type}", each


def test_every_call_has_an_example_of_what_it_takes_and_answers(description: Description) -> None:
    without = {
        name.partition(",")[0] for name, each in contents(description) if "example" not in each
    }

    assert without == OF_THEMSELVES


def test_no_example_is_left_over(description: Description) -> None:
    calls = [call for item in description.document["paths"].values() for call in item.values()]
    shown = sum("example" in each for _, each in contents(description))

    assert EXAMPLES.keys() <= {call["operationId"] for call in calls}
    assert shown == sum(
        len(example.get("body", {})) + len(example.get("answer", {}))
        for example in EXAMPLES.values()
    )


def test_examples_fit_their_schemas(description: Description) -> None:
    for name, each in contents(description):
        if "example" in each:
            assert description.unfit(each["schema"], each["example"]) is None, name


def test_broker_takes_the_examples_and_answers_as_they_say(
    tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint
) -> None:
    with closing(BrokerProcess(tmp_path_factory.mktemp("shop")).start()) as running:
        told = OrderStory(running, endpoint).play()

    assert told.keys() == EXAMPLES.keys()
    for name, example in EXAMPLES.items():
        assert alike(example, told[name]), (name, told[name])
