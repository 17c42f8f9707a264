"""gunicorn's ASGI worker, stopping in the broker's order."""

from gunicorn.workers.gasgi import ASGIWorker

# How long a stop waits for connections, of which some may never say another word. What is left of
# the graceful time-out is for deliveries that are out.
CONNECTIONS_S = 5


class Worker(ASGIWorker):  # type: ignore[misc]
    """Keeps one silent connection from using up the time that a stop may take."""

    async def _shutdown(self) -> None:
        self.cfg.set("graceful_timeout", CONNECTIONS_S)
        await super()._shutdown()
