"""The parts put together, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from pathlib import Path

from broker.api.under_way import UnderWay
from broker.auth import Keys
from broker.bootstrap import Worker
from broker.config import settings_from
from support.broker_process import free_port


def test_memory_is_collected_while_a_broker_stands_by(tmp_path: Path) -> None:
    environment = {
        "BROKER_STORE": "nats://127.0.0.1:1/nobody",
        "BROKER_REPLICA": str(tmp_path),
        "BROKER_HOST": "127.0.0.1",
        "BROKER_GRPC_PORT": str(free_port()),
    }

    async def stand_by() -> bool:
        worker = Worker(settings_from(environment), Keys(None, on=False), UnderWay(1))
        starting = asyncio.create_task(worker.start())
        try:
            await asyncio.wait_for(worker.standing_by(), 10)
            return gc.isenabled()
        finally:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await worker.stop()

    try:
        assert asyncio.run(stand_by())
    finally:
        gc.enable()
