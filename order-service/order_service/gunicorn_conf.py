"""How gunicorn runs the service: `gunicorn --config python:order_service.gunicorn_conf`.

Read by gunicorn before it starts a worker, so a wrong setting ends the start here.
"""

from __future__ import annotations

import os
import signal
import sys

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from order_service.logs import logging_config
from order_service.settings import WrongSetting, read_settings

try:
    settings = read_settings(os.environ)
except WrongSetting as wrong:
    sys.exit(str(wrong))

wsgi_app = "order_service:create_app()"
bind = f"{settings.host}:{settings.port}"
worker_class = "gthread"
threads = 8
keepalive = 75  # seconds; a client that reuses connections should be the one to close them
graceful_timeout = 10
control_socket_disable = True  # it would be a file on a root file system that is read-only
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  heartbeats
logconfig_dict = logging_config(settings.log_format)


def on_starting(server: Arbiter) -> None:
    """Have a SIGTERM wait that comes during a fork, or the new worker would lose it."""
    os.register_at_fork(after_in_parent=heed_sigterm)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Begin to have it wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Let it end a worker that has no handlers of its own yet, but those of its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    heed_sigterm()


def heed_sigterm() -> None:
    """Have it wait no more."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def post_worker_init(worker: Worker) -> None:
    """Start what works beside the requests, in each worker after its fork."""
    for part in worker.wsgi.extensions["background"]:
        part.start()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Stop it, last started first; by now the last request is answered."""
    app = getattr(worker, "wsgi", None)  # a worker that failed to boot has none
    for part in reversed(app.extensions["background"] if app else []):
        part.stop()
