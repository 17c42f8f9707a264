"""Reusable parts of the tests: a real broker process, a real endpoint, a thin client."""
