"""What a handler may say about a message instead of taking it."""


class Verdict(Exception):
    """A handler's decision about a message; raising one rolls the handler's work back."""

    name = ""


class Retry(Verdict):
    """Deliver the message again after `after_s` seconds, or after the subscription's backoff."""

    name = "retry"

    def __init__(self, after_s: float | None = None) -> None:
        super().__init__("retry" if after_s is None else f"retry after {after_s:g} s")
        self.after_s = after_s


class DeadLetter(Verdict):
    """Give the message up at once and keep it as a dead letter, with the reason."""

    name = "dead-letter"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Later(Verdict):
    """The message is taken in hand, and its own verdict follows: `Subscriber.finish`, `AckHandle`.

    Until then, but for `ack_deadline_s` at most, the broker holds it and what follows of its key.
    """

    name = "later"

    def __init__(self) -> None:
        super().__init__("its verdict follows")
