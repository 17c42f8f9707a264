"""Events of every kind, for properties that hold for all of them."""

from __future__ import annotations

from datetime import UTC

from hypothesis import strategies as st

from broker_client import Event

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(st.characters(categories=["L", "N", "P", "Zs"], max_codepoint=0xFFFF), min_size=1)
utc_times = st.datetimes(timezones=st.just(UTC))
events = st.builds(
    Event,
    type=texts,
    source=st.from_regex(r"/[a-z0-9/._-]{0,20}", fullmatch=True),
    data=json_values | st.binary(),
    id=texts,
    subject=st.none() | texts,
    time=st.none() | utc_times,
    dataschema=st.none() | st.just("https://example.com/schema"),
    partitionkey=st.none() | texts,
    extensions=st.dictionaries(
        st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True),
        texts | st.integers(-(2**31), 2**31 - 1) | st.booleans(),
        max_size=3,
    ),
)
