"""Hooks of schemathesis: what it leaves out, because no schema says what is wrong with it."""

from __future__ import annotations

from typing import Any

import schemathesis

from support.order_story import CREATED

EVENTS = {"application/cloudevents+json", "application/cloudevents-batch+json"}


@schemathesis.hook
def filter_case(_: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave out what is refused for two things that do not go together, each of them right.

    And what a header says in percent-encoding, for a pattern does not read that.
    """
    if any("%" in str(value) for value in (case.headers or {}).values()):
        return False
    if "Idempotency-Key" in (case.headers or {}) and case.media_type in EVENTS:
        return False
    if not isinstance(case.body, dict):
        return True
    later = case.body.get("allow_later") is True  # what is stored may have at-most-once
    return not later and not _ends_before_it_begins(case.body.get("retry"))


@schemathesis.hook
def before_add_examples(
    context: schemathesis.HookContext, examples: list[schemathesis.Case]
) -> None:
    """Have the description's own examples go together as well.

    An id that an answer has is not put on other data; and no other hook sees these cases.
    """
    examples[:] = [
        map_case(context, case)
        for case in examples
        if (case.headers or {}).get("ce-id") != CREATED["id"]
    ]


@schemathesis.hook
def map_case(_: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Put in what is right in another language than JSON Schema, and let nobody wait for long."""
    body = case.body
    if not isinstance(body, dict):
        return case
    if isinstance(body.get("schema"), (dict, bool)):
        body["schema"] = None  # or the data of other cases would break it
    if isinstance(body.get("filters"), list):
        body["filters"] = _with_sql(body["filters"])
    wait_s = body.get("wait_s")
    if isinstance(wait_s, (int, float)) and 0 < wait_s <= 30:
        body["wait_s"] = 0.01
    return case


def _with_sql(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_sql(each) for each in part]
    if isinstance(part, dict):
        return {
            name: "TRUE" if name == "sql" and isinstance(each, str) and each else _with_sql(each)
            for name, each in part.items()
        }
    return part


def _ends_before_it_begins(retry: Any) -> bool:
    if not isinstance(retry, dict):
        return False
    first, longest = retry.get("min_backoff_s"), retry.get("max_backoff_s")
    both = [1.0 if first is None else first, 600.0 if longest is None else longest]
    return all(isinstance(each, (int, float)) for each in both) and both[0] > both[1]
