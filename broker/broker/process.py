"""The worker process: its memory, and its end."""

import asyncio
import gc
import logging
import os

from broker import __version__
from broker.config import Settings, shown_store

log = logging.getLogger(__name__)

EXIT_AFTER_FAILURE_S = 0.25

# What a message needs is freed by its reference count. The search for cycles would go through all
# that waits, over and over; it is left to what is rare: tracebacks and Flask's contexts.
GC_THRESHOLDS = (50_000, 20, 20)


def keep_memory() -> None:
    """Look no more through what has been made so far: it stays.

    But what stayed until now may have ended with a cell that has gone to another broker.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


def tell_of_start(settings: Settings) -> None:
    log.info(
        "broker %s serves on %s:%d, with its data in %s.",
        __version__,
        settings.host,
        settings.port,
        shown_store(settings.store),
        extra={"action": "started"},
    )


def fail(reason: str) -> None:
    """End the process soon: a new one recovers from what is on disk.

    The pause lets those who wait hear that their outcome is unknown.
    """
    log.critical("The worker ends, to recover: %s.", reason, extra={"action": "worker_failed"})
    asyncio.get_running_loop().call_later(EXIT_AFTER_FAILURE_S, os._exit, 1)
