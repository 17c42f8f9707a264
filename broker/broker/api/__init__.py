"""The hot path: what is asked for every message, answered without Flask."""
