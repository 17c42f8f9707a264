"""Sequences in paths and query strings."""

from werkzeug.routing import IntegerConverter

MAX_SEQUENCE = 2**53


class SequenceConverter(IntegerConverter):
    """A sequence in a path; what no message can have stands for one that is not there."""

    def to_python(self, value: str) -> int:
        """Read it."""
        digits = value.lstrip("0")
        return MAX_SEQUENCE if len(digits) > 15 else super().to_python(value)
