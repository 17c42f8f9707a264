"""Patterns of LIKE, beside a matcher that tries everything."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.filters.evaluation import MOST_STEPS, Error, Evaluation, Failed
from broker.filters.like import pattern


def matches(text: str, like: str) -> bool:
    return pattern(like)(text, Evaluation({}))


def tried(text: str, like: str) -> bool:
    """Say by trying each way whether a text matches."""
    if not like:
        return not text
    first, rest = like[0], like[1:]
    if first == "%":
        return any(tried(text[skipped:], rest) for skipped in range(len(text) + 1))
    if first == "\\" and rest[:1] in {"%", "_"}:
        first, rest = rest[0], rest[1:]
    elif first == "_":
        return bool(text) and tried(text[1:], rest)
    return text[:1] == first and tried(text[1:], rest)


@given(
    st.text(alphabet="ab%_\\\n", max_size=8),
    st.text(alphabet="ab%_\\", max_size=8),
)
@example("aab", "%ab")
@example("abab", "%_b%a_")
@example("ab", "a_%_b")
@example("a\nb", "a_b")
def test_pattern_matches_what_trying_everything_matches(text: str, like: str) -> None:
    assert matches(text, like) == tried(text, like)


@given(st.text(max_size=10))
def test_escaped_text_matches_itself(text: str) -> None:
    plain = text.replace("\\", "")
    like = plain.replace("%", "\\%").replace("_", "\\_")
    assert matches(plain, like)
    assert matches(f"<{plain}>", f"%{like}%")
    assert not matches(f"{plain}!", like)


@pytest.mark.parametrize("special", list(".^$*+?{}[]|()"))
def test_nothing_but_wildcards_is_special(special: str) -> None:
    assert matches(f"a{special}bc", f"%{special}b_")
    assert not matches("axbc", f"%{special}b_")


@pytest.mark.parametrize("like", ["%" + "a%" * 50 + "b%", "%" + "a_%" * 50 + "b%", "%a_______b%"])
def test_cost_is_bounded_by_the_text_times_the_pattern(like: str) -> None:
    evaluation = Evaluation({})

    pattern(like)("a" * 3000, evaluation)

    assert MOST_STEPS - evaluation.steps <= 3000 * len(like)
    with pytest.raises(Failed) as failed:
        pattern(like)("a" * MOST_STEPS, evaluation)
    assert failed.value.error == Error.GENERIC


def test_beginning_and_end_cost_nothing() -> None:
    evaluation = Evaluation({})
    for like in ("a%", "%a", "a%a", "aaa"):
        pattern(like)("a" * 10_000, evaluation)
    assert evaluation.steps == MOST_STEPS
