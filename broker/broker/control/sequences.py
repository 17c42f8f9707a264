"""Sequences in paths and query strings."""

from werkzeug.routing import IntegerConverter

from broker.model import MAX_SEQUENCE


class SequenceConverter(IntegerConverter):
    """A sequence in a path; what no message can have stands for one that is not there."""

    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        """Read it."""
        digits = value.lstrip("0")
        return MAX_SEQUENCE if len(digits) > 15 else super().to_python(value)
