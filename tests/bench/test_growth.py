"""What grows is named, and what two runs differ by is not."""

from bench.growth import DIMENSIONS, FACTOR, Costs, Pair, finding_of, grown
from bench.idle import Idle
from bench.process_tree import Memory
from bench.repeats import Median


def costs(
    size: int, start_s: float = 1.0, rest: float = 0.0, pss: int = 10**8, cpu_us: float = 80.0
) -> Costs:
    return Costs(size, Idle(start_s, rest, Memory(2 * pss, pss)), Median(1000.0, cpu_us))


def test_growth_is_named_by_what_and_cost() -> None:
    pairs = [
        Pair("topics", costs(10), costs(1000, start_s=3.0)),
        Pair("keys", costs(10), costs(1000, cpu_us=90.0)),
        Pair("ids", costs(10), costs(1000, cpu_us=400.0)),
    ]
    assert grown(pairs) == [("topics", "start", 3.0), ("ids", "message", 5.0)]


def test_rest_below_a_hundredth_of_a_core_is_no_growth() -> None:
    pair = Pair("topics", costs(10, rest=0.0001), costs(1000, rest=0.009))
    assert grown([pair]) == []
    assert grown([Pair("topics", costs(10), costs(1000, rest=0.2))]) == [("topics", "rest", 20.0)]


def test_nothing_grown_is_told() -> None:
    finding = finding_of([Pair("keys", costs(10), costs(1000))])
    assert finding.sentences == ("Nothing costs more than 1.5 times as much.",)
    assert finding.tables[0].rows[0][:2] == ("10 → 1,000 keys", "1.00 → 1.00 (x 1.00)")


def test_sizes_are_a_hundredfold_apart_however_small() -> None:
    for dimension in DIMENSIONS:
        for divisor in (1, 20, 10**9):
            small, large = dimension.sizes(divisor)
            assert large == small * FACTOR
