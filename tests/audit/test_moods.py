"""A bad answer is as bad as its mood, and takes effect or not."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.faults import ANSWER_FAULTS, Kind
from audit.moods import Mood, MoodFile, Reaction, react

SEEDS = range(50)


def reactions(kind: Kind, share: float = 1.0) -> list[Reaction]:
    """Meet a mood a few times."""
    return [react(Mood(kind, share), ["k"], Random(seed)) for seed in SEEDS]


def test_endpoint_that_is_well_takes_all() -> None:
    assert react(None, ["k"], Random(1)) == Reaction()
    assert Reaction().acknowledges


@pytest.mark.parametrize("kind", [each for each in ANSWER_FAULTS if each is not Kind.LAG])
def test_bad_answer_acknowledges_nothing_and_has_sometimes_taken_effect(kind: Kind) -> None:
    found = reactions(kind)

    assert not any(reaction.acknowledges for reaction in found)
    assert {reaction.takes for reaction in found} == {True, False}


def test_late_answer_is_a_good_one() -> None:
    assert all(each.acknowledges and each.delay_s > 0 for each in reactions(Kind.LAG))


def test_share_leaves_the_others_alone() -> None:
    found = reactions(Kind.ERROR, share=0.5)

    assert {reaction.status for reaction in found} == {200, 500}


@given(
    keys=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_refusing_some_stops_a_key_at_its_first(keys: list[str | None], seed: int) -> None:
    reaction = react(Mood(Kind.REFUSE_SOME, 1.0), keys, Random(seed))

    if reaction.status == 500:
        assert not reaction.takes
        return
    first, *others = reaction.refused
    same_key = [at for at in range(first + 1, len(keys)) if keys[at] == keys[first] is not None]
    assert others == same_key
    assert len(reaction.refused) < len(keys)


def test_file_tells_the_moods_of_others_too(tmp_path: Path) -> None:
    file = MoodFile(tmp_path / "moods.json")
    file.write({"a": Mood(Kind.ERROR, 0.5), "b": Mood(Kind.LAG, 1.0)})
    file.write({"b": Mood(Kind.HANG_UP, 0.1)})

    assert MoodFile(tmp_path / "moods.json").read("b") == Mood(Kind.HANG_UP, 0.1)
    assert file.read("a") is None
