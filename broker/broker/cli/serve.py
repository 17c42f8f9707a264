"""`broker serve`: gunicorn around one worker."""

import resource
import signal
import sys
from contextlib import suppress
from queue import Empty
from typing import Any

from gunicorn.app.base import BaseApplication

from broker.bootstrap import asgi_app
from broker.config import Settings
from broker.logs import configure_logging

# Shorter than the time a stop may take, which one idle connection would otherwise use up.
KEEP_ALIVE_S = 3
STOP_MARGIN_S = 10
BACKLOG = 2048
_HEARTBEAT_FOLDER = "/dev/shm"  # noqa: S108 in memory: no heartbeat waits for a disk


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured here and nowhere else."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Apply the options."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the application, in the worker."""
        return asgi_app()


def serve(settings: Settings) -> int:
    """Run until told to stop; return the exit code."""
    configure_logging(settings.log_level, settings.log_format)
    _allow_many_connections()
    Gunicorn(options_for(settings)).run()
    return 0


def options_for(settings: Settings) -> dict[str, Any]:
    """Say how gunicorn is run: one worker, because one process owns the store."""
    return {
        "bind": [f"{settings.host}:{settings.port}"],
        "http_parser": "fast",
        "worker_class": "broker.cli.worker.Worker",
        "workers": 1,
        "asgi_loop": "uvloop",
        "asgi_lifespan": "on",
        "keepalive": KEEP_ALIVE_S,
        "graceful_timeout": round(settings.drain_s) + STOP_MARGIN_S,
        "timeout": 60,
        "backlog": BACKLOG,
        "worker_connections": 10_000,
        "control_socket_disable": True,
        "worker_tmp_dir": _HEARTBEAT_FOLDER if sys.platform == "linux" else None,
        "logger_class": "broker.cli.gunicorn_logging.Quiet",
        "proc_name": "broker",
        "post_fork": _heed_sigterm_at_once,
    }


def _heed_sigterm_at_once(arbiter: Any, _: Any) -> None:
    """Let a worker end on a SIGTERM that comes before it has handlers of its own.

    Until then it has those of its parent, which put a signal into a queue that a worker never
    reads: the stop would take all the time it may.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(Empty):
        while True:
            if arbiter.SIG_QUEUE.get_nowait() == signal.SIGTERM:
                sys.exit(0)


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
