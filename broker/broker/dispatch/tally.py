"""What a pump has done since it began, in numbers."""

from broker.histogram import Histogram


class Tally:
    """Deliveries by what became of them, and how long attempts and deliveries took."""

    __slots__ = (
        *("acked", "dead", "dropped", "expired", "retried"),
        *("answered", "failed", "latency"),
    )

    def __init__(self) -> None:
        self.acked = self.retried = self.dead = self.expired = 0
        self.dropped = 0  # at-most-once, and the attempt failed
        self.answered, self.failed = Histogram(), Histogram()  # attempts, by what they met
        self.latency = Histogram()  # from the 201 to the ack
