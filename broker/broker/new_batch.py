"""Messages that one request brought, side by side: what is the same for all is looked at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import add
from typing import overload

from broker.model import NewMessage


# Asked for by its type: isinstance takes half a microsecond where a class is abstract, as one that
# is a Sequence is, and every publish is asked.
@dataclass(slots=True, eq=False)
class NewBatch(Sequence[NewMessage]):
    """New messages of one source, with ids of the publisher's own, that wait for no time.

    Their fingerprints are of one length.
    """

    source: str
    ids: list[str]
    keys: list[str | None]
    attributes: list[bytes]
    contents: list[bytes | None]
    fingerprints: list[bytes]
    lengths: list[int] = field(init=False)  # of the contents

    def __post_init__(self) -> None:
        self.lengths = [0 if content is None else len(content) for content in self.contents]

    def sizes(self) -> list[int]:
        """Return the `size_of` each."""
        return list(map(add, map(len, self.attributes), self.lengths))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[NewMessage]:
        return map(
            NewMessage,
            self.ids,
            repeat(self.source),
            self.keys,
            self.attributes,
            self.contents,
            self.fingerprints,
        )

    @overload
    def __getitem__(self, place: int) -> NewMessage: ...
    @overload
    def __getitem__(self, place: slice) -> list[NewMessage]: ...
    def __getitem__(self, place: int | slice) -> NewMessage | list[NewMessage]:
        if isinstance(place, slice):
            return list(self)[place]
        return NewMessage(
            self.ids[place],
            self.source,
            self.keys[place],
            self.attributes[place],
            self.contents[place],
            self.fingerprints[place],
        )


def side_by_side(messages: Sequence[NewMessage]) -> NewBatch | None:
    """Put messages side by side; None where they are not alike enough for that."""
    if type(messages) is NewBatch:
        return messages
    fingerprints = [message.fingerprint for message in messages if message.fingerprint is not None]
    source = messages[0].source
    if (
        len(fingerprints) < len(messages)
        or len(set(map(len, fingerprints))) > 1
        or any(each.source != source or each.deliver_at is not None for each in messages)
    ):
        return None
    return NewBatch(
        source,
        [message.id for message in messages],
        [message.key for message in messages],
        [message.attributes for message in messages],
        [message.data for message in messages],
        fingerprints,
    )


def longest_in(messages: Sequence[NewMessage]) -> tuple[int, int]:
    """Return how long the longest attributes are, and the longest data."""
    if type(messages) is NewBatch:
        return max(map(len, messages.attributes)), max(messages.lengths)
    if len(messages) == 1:
        (message,) = messages
        return len(message.attributes), len(message.data or b"")
    attributes = [len(message.attributes) for message in messages]
    return max(attributes), max(len(message.data or b"") for message in messages)


def data_in(messages: Sequence[NewMessage]) -> int:
    """Return how many bytes of data messages have."""
    if type(messages) is NewBatch:
        return sum(messages.lengths)
    size = 0
    for message in messages:
        if message.data is not None:
            size += len(message.data)
    return size
