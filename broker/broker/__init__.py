"""A durable, ordered webhook broker."""

__version__ = "0.1.0"
