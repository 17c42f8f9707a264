"""Tables are aligned for a terminal, and written for Markdown."""

from bench.table import Table

TABLE = Table(("case", "rate"), (("a", "1,000"), ("longer", "2")))


def test_text_is_aligned() -> None:
    assert TABLE.to_text().splitlines() == [
        "case     rate",
        "------  -----",
        "a       1,000",
        "longer      2",
    ]


def test_markdown_has_a_rule() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "| case | rate |",
        "| --- | --: |",
        "| a | 1,000 |",
        "| longer | 2 |",
    ]


def test_no_rows_are_nothing() -> None:
    empty = Table(("case",), ())
    assert (empty.to_text(), empty.to_markdown()) == ("", "")
