"""The newest messages in memory, against a list of all that came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.model import Message
from broker.store.sqlite.tail import Page, Tail

steps = st.lists(
    st.tuples(st.just("add"), st.integers(1, 20))
    | st.tuples(st.sampled_from(["forget", "clear"]), st.integers(0, 30)),
    max_size=40,
)


def message(seq: int) -> Message:
    """Make a message."""
    return Message(seq, None, b"{}", None, 0.0)


@given(st.integers(1, 5), steps, st.integers(0, 400), st.integers(1, 50))
def test_tail_has_what_came_last(
    last: int, steps: list[tuple[str, int]], after: int, limit: int
) -> None:
    tail = Tail()
    left: list[int] = []
    for step, count in steps:
        if step == "add":
            new = range(last + 1, last + 1 + count)
            tail.add([message(seq) for seq in new], new)
            left += new
            last += count
        elif step == "forget":
            tail.forget(min(count, len(left)))
            left = left[count:]
        else:
            tail.clear()
            left = []

        page = tail.page(after, limit)

        assert len(tail) == len(left)
        if not left or not left[0] <= after + 1 <= left[-1]:
            assert page is None
        else:
            assert page is not None
            expected = [seq for seq in left if seq > after][:limit]
            assert [each.seq for each in page.messages] == list(page.sizes) == expected


def test_place_of_what_was_forgotten_is_given_up_in_time() -> None:
    tail = Tail()
    for start in range(0, 100_000, 10):
        tail.add([message(seq) for seq in range(start, start + 10)], [2] * 10)
        tail.forget(max(0, len(tail) - 1000))
        assert len(tail._messages) == len(tail._sizes) < 1200


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 60))
def test_beginning_ends_with_the_message_that_fills_the_room(sizes: list[int], room: int) -> None:
    page = Page([message(seq) for seq in range(len(sizes))], sizes)

    count = next((n for n in range(1, len(sizes)) if sum(sizes[:n]) >= room), len(sizes))
    assert page.beginning(room) == Page(page.messages[:count], sizes[:count])
