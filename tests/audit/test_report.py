"""The report: what it says of a run follows from its figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from audit.figures import Figures
from audit.outages import Outage
from audit.report import Report, to_json, to_text

FIGURES = Figures("by-key", "at-least-once", 1200, 1200, again=7, allowed=frozenset({"again"}))
CLEAN = Report(1, 10, 640.5, 12.0, 3, {"kill -9": 4, "pause": 2}, [FIGURES], [])


def test_allowed_figures_stand_in_brackets() -> None:
    text = to_text(CLEAN)

    assert "(7)" in text
    assert "6 faults" in text
    assert text.endswith("All promises are kept.")


def test_time_without_service_is_told_where_it_was_measured() -> None:
    outage = Outage("the owner: kill -9", 3, 5.24, 6.0, 5.5, 7.25)
    text = to_text(replace(CLEAN, outages=[outage]))

    assert "without service" not in to_text(CLEAN)
    assert re.search(r"the owner: kill -9 +3 +5\.2 +6\.0 +5\.5 +7\.2", text)


def test_one_wrong_figure_breaks_it() -> None:
    broken = replace(CLEAN, figures=[replace(FIGURES, lost=1, examples=["lost: p0-17"])])

    assert not broken.clean
    assert "lost: p0-17" in to_text(broken)
    assert to_text(broken).endswith("NOT ALL PROMISES ARE KEPT.")


def test_surprise_breaks_it_though_all_figures_are_right() -> None:
    assert not replace(CLEAN, surprises=["it did not stop"]).clean


def test_what_could_not_be_tried_is_told_and_breaks_nothing() -> None:
    report = replace(CLEAN, remarks=["No disk was slow: there is no strace."])

    assert report.clean
    assert "No disk was slow: there is no strace." in to_text(report).splitlines()


def test_programs_read_the_same() -> None:
    document = json.loads(to_json(CLEAN))

    assert document["clean"] is True
    assert document["faults"] == {"kill -9": 4, "pause": 2}
    assert document["figures"][0]["again"] == 7
    assert document["figures"][0]["allowed"] == ["again"]
    assert document["figures"][0]["kept"] is True
