"""Measure what the broker does in a second, beside what a user would write without it."""
