"""What was done a second, from totals, and the chart that is made of it."""

from __future__ import annotations

import pytest

from broker.dashboard.charts import HEIGHT, WIDTH, chart
from broker.dashboard.wording import data_as_text, duration, moment, rate, size, span
from broker.history import Rates, Totals, rates_of


def test_rates_are_what_was_done_between_totals() -> None:
    kept = [Totals(0.0, 0, 10, 0), Totals(2.0, 10, 20, 1), Totals(6.0, 30, 20, 1)]

    assert rates_of(kept) == Rates([5.0, 5.0], [5.0, 0.0], [0.5, 0.0])


def test_total_that_falls_is_no_rate_below_zero() -> None:
    assert rates_of([Totals(0.0, 9, 0, 0), Totals(1.0, 2, 0, 0)]).published == [0.0]


@pytest.mark.parametrize("kept", [[], [Totals(0.0, 1, 1, 1)]])
def test_one_total_makes_no_rate(kept: list[Totals]) -> None:
    assert rates_of(kept) == Rates([], [], [])


def test_chart_ends_at_the_right_and_stays_in_its_box() -> None:
    drawn = chart([0.0, 4.0, 2.0], steps=5)

    assert (drawn.now, drawn.most) == (2.0, 4.0)
    points = [tuple(map(float, point.split())) for point in drawn.line[1:].split("L")]
    assert points[-1][0] == WIDTH
    assert points[0] == (WIDTH / 2, HEIGHT - 1)
    assert points[1][1] == 1
    assert all(0 <= y <= HEIGHT for _, y in points)


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0]])
def test_chart_of_nothing_is_flat(values: list[float]) -> None:
    drawn = chart(values, steps=3)

    assert (drawn.now, drawn.most) == (0.0, 0.0)
    assert "nan" not in drawn.line


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (span(None), "\N{EN DASH}"),
        (span(0), "0 s"),
        (span(59.94), "59.9 s"),
        (span(90), "1.5 min"),
        (span(5400), "1.5 h"),
        (span(86400 * 3), "3.0 d"),
        (duration(604800), "7 d"),
        (duration(90), "90 s"),
        (duration(0.05), "0.05 s"),
        (size(0), "0 B"),
        (size(1536), "1.5 KiB"),
        (size(3 * 2**40), "3.0 TiB"),
        (rate(0), "0"),
        (rate(0.25), "0.2"),
        (rate(1234.5), "1,234"),
        (moment("2026-01-31T12:00:00.5Z"), "2026-01-31 12:00:00"),
        (moment(None), "\N{EN DASH}"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, None),
        (b"", ""),
        (b'{"a":1}', '{\n  "a": 1\n}'),
        ("né".encode(), "né"),
        (b"\xff\x00\x01\x02\x03", "ff 00010203"),
        (b"[" * 100_000, "[" * 16384),
        (b"NaN", "NaN"),
        (b'{"a":"' + b"x" * 2**20 + b'"}', '{"a":"' + "x" * 16378),
    ],
)
def test_data_is_shown_as_what_it_is(data: bytes | None, expected: str | None) -> None:
    assert data_as_text(data) == expected
