"""Publishers are spread over the topics and the brokers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import cast

import pytest

from audit.run import publishers_of
from audit.subject import Subject


@dataclass(frozen=True)
class Known:
    """What publishers ask of a subject."""

    topics: list[str]
    broker_urls: list[str]
    answer_s: float = 1.0


@pytest.mark.parametrize(("topics", "urls"), [(1, 1), (1, 3), (6, 3), (4, 2)])
def test_each_topic_has_publishers_that_begin_with_different_brokers(
    topics: int, urls: int
) -> None:
    subject = Known([f"t{n}" for n in range(topics)], [f"u{n}" for n in range(urls)])
    publishers = publishers_of(cast(Subject, subject), 1)

    counts = Counter(publisher.topic for publisher in publishers)
    assert set(counts) == set(subject.topics)
    assert min(counts.values()) >= 2
    begun = Counter((each.topic, each.base_url) for each in publishers)
    assert urls == 1 or set(begun.values()) == {1}
    assert {url for _, url in begun} == set(subject.broker_urls)
