"""Measure what filters cost a message: `python -m bench.filters`, from the root of the checkout."""

import sys
from collections.abc import Callable, Sequence
from timeit import repeat
from typing import Any

import msgspec

from broker.cloudevents import attributes_of
from broker.errors import Fault
from broker.filters.dialects import read, wants

ATTRIBUTES = msgspec.json.encode(
    {
        "specversion": "1.0",
        "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "source": "/shop/orders",
        "type": "com.example.order.created",
        "time": "2026-01-31T12:00:00.123456Z",
        "subject": "orders/12345",
        "datacontenttype": "application/json",
        "partitionkey": "customer-998877",
        "region": "eu-west",
        "priority": 5,
    }
)
SHIPPED = {"exact": {"type": "com.example.order.shipped"}}
CREATED = {"exact": {"type": "com.example.order.created"}}
FILTERS: Sequence[dict[str, Any]] = (
    CREATED,
    {"prefix": {"type": "com.example.order."}},
    {"suffix": {"type": ".created"}},
    {"all": [CREATED, {"prefix": {"region": "eu"}}]},
    {"any": [SHIPPED, CREATED]},
    {"not": SHIPPED},
    {"sql": "type LIKE 'com.example.%' AND priority > 3"},
    {"sql": "(region IN ('eu-west', 'eu-north') OR UPPER(LEFT(subject, 2)) = 'EU') AND "
            "type LIKE '%order_c%' AND priority % 5 = 0 AND NOT EXISTS dataschema"},
)  # fmt: skip
LOOPS, ROUNDS = 50_000, 5


def main(loops: int = LOOPS, rounds: int = ROUNDS) -> int:
    """Print the best of some rounds, in microseconds a message."""

    def best_us(call: Callable[[], object]) -> float:
        return min(repeat(call, number=loops, repeat=rounds)) / loops * 1e6

    print(f"{best_us(lambda: attributes_of(ATTRIBUTES)):6.2f} µs  of it, reading the attributes")
    for filter_ in FILTERS:
        print(f"{best_us(passing(filter_)):6.2f} µs  {msgspec.json.encode(filter_).decode()}")
    return 0


def passing(filter_: dict[str, Any]) -> Callable[[], object]:
    """Compile a filter, see that the message passes it, and return how to ask for that again."""
    faults: list[Fault] = []
    wanted = wants(read([filter_], faults))
    if faults or wanted is None or not wanted(ATTRIBUTES):
        raise ValueError(f"{filter_} does not hold: {faults}")
    return lambda: wanted(ATTRIBUTES)


if __name__ == "__main__":
    sys.exit(main())
