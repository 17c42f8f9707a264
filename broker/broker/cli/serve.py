"""`broker serve`: gunicorn around one worker."""

import os
import resource
import signal
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from broker.config import Settings
from broker.logs import configure_logging

# Longer than clients keep theirs: of the two, the one that sends should be the one to close.
KEEP_ALIVE_S = 75
STOP_MARGIN_S = 15
BACKLOG = 2048
MOST_CONNECTIONS = 10_000
RESERVED_FILES = 200  # of what may be open: the store, gRPC, couriers, and some to spare
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
        # Imported there and not above: gunicorn's own process only watches the worker, and would
        # hold all of it in memory a second time.
        from broker.bootstrap import asgi_app

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
        "worker_connections": _most_connections(),
        "control_socket_disable": True,
        "worker_tmp_dir": _HEARTBEAT_FOLDER if sys.platform == "linux" else None,
        "logger_class": "broker.cli.gunicorn_logging.Quiet",
        "proc_name": "broker",
        "on_starting": _let_sigterm_wait_in_forks,
        "pre_fork": _let_sigterm_wait,
        "post_fork": _end_on_sigterm,
    }


def _let_sigterm_wait_in_forks(_: Any) -> None:
    """Keep a worker from losing a SIGTERM that comes while it is forked."""
    os.register_at_fork(after_in_parent=_heed_sigterm)


def _let_sigterm_wait(_: Any, __: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _end_on_sigterm(_: Any, __: Any) -> None:
    """Let it end a worker that has no handlers of its own yet, but those of its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _heed_sigterm()


def _heed_sigterm() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _most_connections() -> int:
    """Return how many connections there may be, which is fewer where few files may be open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, files - RESERVED_FILES))


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
