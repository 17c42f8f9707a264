"""gunicorn's own messages, in the broker's log."""

from typing import Any

from gunicorn.glogging import Logger


class Quiet(Logger):  # type: ignore[misc]
    """Leaves formatting and destination to broker.logs; there is no access log."""

    def setup(self, cfg: Any) -> None:
        """Keep the handlers that configure_logging has set."""
        self.cfg = cfg
        self._access_log_enabled = False  # else it is worked out anew for every request
